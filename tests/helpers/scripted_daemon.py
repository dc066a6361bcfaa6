"""
A daemon process with the engine that is never wrong, for what can only be done to a process:

    python -m tests.helpers.scripted_daemon serve --port 8000
"""

from __future__ import annotations

from streamer.build.service import Service
from streamer.config import Config
from tests.helpers.process import serve
from tests.helpers.scripted_engine import ScriptedService


def build(config: Config) -> Service:
    """A scripted service, at once."""
    return ScriptedService(max_sessions=config.scheduler.max_sessions, resume_s=config.server.resume_s).parts()


if __name__ == "__main__":
    serve(build)
