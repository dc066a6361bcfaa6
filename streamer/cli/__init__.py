"""The command line: `streamer` and its commands."""

from streamer.cli.commands import main

__all__ = ["main"]
