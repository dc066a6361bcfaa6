"""Tests of streamer/server/listener.py: accepting when there is nothing to accept with."""

from __future__ import annotations

import asyncio
import errno
import socket
from typing import Any

from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from streamer.access.open_sockets import OpenSocket, OpenSockets
from streamer.server.listener import Listener
from streamer.telemetry.metrics import SocketMetrics


class Broke(socket.socket):
    """A listening socket of a process that has no descriptor left."""

    n_attempts = 0

    def accept(self) -> Any:
        """Fail."""
        self.n_attempts += 1
        raise OSError(errno.EMFILE, "Too many open files")


def refuse(_: OpenSocket) -> asyncio.Protocol:
    """Build nothing."""
    raise AssertionError("nothing was accepted")


async def test_an_accept_that_fails_is_counted_told_once_and_slowed() -> None:
    """The socket stays readable all the time: the loop does not spin, and the log does not grow."""
    registry = CollectorRegistry()
    metrics = SocketMetrics(registry)
    listening = Broke()
    listening.bind(("127.0.0.1", 0))
    listener = Listener(listening, refuse, OpenSockets(10, metrics), None, 1.0, metrics)
    with capture_logs() as lines, socket.socket() as client:
        listener.start()
        client.setblocking(False)
        await asyncio.get_running_loop().sock_connect(client, listening.getsockname())
        for _ in range(200):
            await asyncio.sleep(0)
        listener.close()
        await listener.wait_closed()

    assert listening.n_attempts == 1
    assert [line["event"] for line in lines] == ["accept_failed"]
    assert registry.get_sample_value("streamer_accept_errors_total") == 1.0
