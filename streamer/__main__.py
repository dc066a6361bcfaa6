"""`python -m streamer`."""

from streamer.cli.commands import main

if __name__ == "__main__":
    main(prog_name="streamer")
