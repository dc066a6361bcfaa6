"""
A daemon of several gateway processes and one engine process, with the engine that is never wrong:

    python -m tests.helpers.scripted_gateways serve --port 8000     their parent
    python -m tests.helpers.scripted_gateways DESCRIPTOR            one of the gateways
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys

from streamer import gateway
from streamer.config import Config
from streamer.gateways import process
from streamer.gateways.parent import Commands
from streamer.gateways.parent import serve as serve_with_gateways
from tests.helpers import hosted_engines
from tests.helpers.process import serve
from tests.helpers.scripted_daemon import build
from tests.helpers.scripted_engine import LoudnessFrontEnd

COMMAND = (sys.executable, "-m", "tests.helpers.scripted_gateways")


def gateways(config: Config) -> int:
    """Serve with several gateways; the exit code."""
    return serve_with_gateways(config, commands=Commands(gateway=COMMAND, engine=hosted_engines.COMMAND))


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(build, gateways)
    gateway.FrontEnd = lambda *_: LoudnessFrontEnd()  # type: ignore[misc, assignment, return-value]
    os._exit(asyncio.run(process.serve(socket.socket(fileno=int(sys.argv[1])), logs_to=sys.stderr)))
