"""Clients of the relayed dialects, on a daemon of a test."""

from __future__ import annotations

from typing import Any

from tests.helpers.http_daemon import Daemon

LISTEN = "/v1/listen?model=nova-3&encoding=linear16&sample_rate=16000"


def listen(daemon: Daemon, query: str = "", **options: Any) -> Any:
    """A client of Deepgram's API."""
    return daemon.connect(LISTEN + query, **{"subprotocols": None, **options})


def vosk(daemon: Daemon, path: str = "/vosk", **options: Any) -> Any:
    """A client of Vosk's server."""
    return daemon.connect(path, **{"subprotocols": None, **options})
