"""The command line."""

from streamer.cli.commands import main

__all__ = ["main"]
