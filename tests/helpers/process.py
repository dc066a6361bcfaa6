"""The command `serve` for a daemon whose service is built in another way."""

from __future__ import annotations

import argparse
import os
import sys

from streamer import config, daemon
from streamer.daemon import Build
from streamer.telemetry import logs


def serve(build: Build) -> None:
    """Run the daemon as `streamer serve --port N --model NAME` does, and exit."""
    arguments = argparse.ArgumentParser()
    arguments.add_argument("command", choices=["serve"])
    arguments.add_argument("--port", type=int)
    arguments.add_argument("--model")
    args = arguments.parse_args()
    settings = config.load(None, os.environ, {"server.port": args.port, "model.name": args.model})
    logs.configure(settings.log, sys.stderr, os.environ)
    sys.exit(daemon.serve(settings, build=build))
