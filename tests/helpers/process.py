"""The command `serve` for a daemon whose service is built in another way."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable

from streamer import config
from streamer.config import Config
from streamer.daemon import serve as daemon
from streamer.telemetry import logs


def serve(build: daemon.Build, gateways: Callable[[Config], int] | None = None) -> None:
    """
    Run the daemon as `streamer serve --port N --model NAME` does, and exit.

    Args:
        build: Builds the service of one process.
        gateways: Serves where the configuration asks for several gateways; None: it does not.
    """
    arguments = argparse.ArgumentParser()
    arguments.add_argument("command", choices=["serve"])
    arguments.add_argument("--port", type=int)
    arguments.add_argument("--model")
    args = arguments.parse_args()
    settings = config.load(None, os.environ, {"server.port": args.port, "model.name": args.model})
    logs.configure(settings.log, sys.stderr, os.environ)
    if gateways is not None and settings.server.processes > 1:
        sys.exit(gateways(settings))
    sys.exit(daemon.serve(settings, build=build))
