"""Tests of streamer/server/newcomer.py: a connection until it says something."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator

import pytest
from prometheus_client import CollectorRegistry

from streamer.access.open_sockets import OpenSocket, OpenSockets
from streamer.server.newcomer import Newcomer
from streamer.telemetry.metrics import SocketMetrics
from tests.helpers.http_daemon import within
from tests.helpers.waiting import until


class Ends:
    """A connection: the peer's end, and the daemon's with its slot."""

    def __init__(self) -> None:
        self.peer, self.accepted = socket.socketpair()
        self.accepted.setblocking(False)
        self.port = OpenSockets(10, SocketMetrics(CollectorRegistry()))
        slot = self.port.admit("192.0.2.1", 0.0)
        assert slot is not None
        self.slot: OpenSocket = slot
        self.heard: asyncio.Queue[bytes] = asyncio.Queue()

    def newcomer(self, timeout_s: float = 60.0) -> Newcomer:
        """The daemon waits from now on."""
        return Newcomer(self.accepted, self.slot, lambda _, head: self.heard.put_nowait(head), timeout_s)


@pytest.fixture
def ends() -> Iterator[Ends]:
    """Closed at the end."""
    made = Ends()
    yield made
    made.peer.close()
    made.accepted.close()


async def test_what_is_heard_can_be_read_again(ends: Ends) -> None:
    """By whoever takes the connection; it is told once."""
    newcomer = ends.newcomer()
    ends.peer.send(b"GET /")
    assert await within(ends.heard.get()) == b"GET /"
    ends.peer.send(b" HTTP/1.1")
    taken = newcomer.take()
    assert taken is not None
    assert taken.recv(100) == b"GET / HTTP/1.1"
    assert ends.heard.empty()
    assert ends.port.n_open == 1


async def test_who_says_nothing_is_cut(ends: Ends) -> None:
    """In time."""
    newcomer = ends.newcomer(timeout_s=0.001)
    await until(lambda: not ends.port.n_open)
    assert ends.peer.recv(1) == b""
    assert newcomer.take() is None


async def test_who_leaves_is_forgotten(ends: Ends) -> None:
    """At once, and nothing is heard of it."""
    ends.newcomer()
    ends.peer.close()
    await until(lambda: not ends.port.n_open)
    assert ends.heard.empty()


async def test_one_too_many_is_cut(ends: Ends) -> None:
    """By its slot, also when it has said something and waits for its turn."""
    newcomer = ends.newcomer()
    ends.peer.send(b"GET /")
    await within(ends.heard.get())
    ends.slot.drop()
    newcomer.drop()
    assert newcomer.take() is None
    assert ends.port.n_open == ends.port.n_waiting == 0
