"""The command line: `streamer` and its commands."""
