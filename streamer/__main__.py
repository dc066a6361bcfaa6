"""The program `streamer`, also as `python -m streamer`."""

from __future__ import annotations

from streamer.host.imports import long_import


def main() -> None:
    """Run the command line. An interrupt before it is loaded shows no traceback of the imports."""
    with long_import():
        from streamer.cli.commands import main as run

    run(prog_name="streamer")


if __name__ == "__main__":
    main()
