"""Tests of streamer/server/listener.py: accepting when there is nothing to accept with."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from streamer.access.open_sockets import OpenSocket, OpenSockets
from streamer.host.event_loop import MOST_AT_ONCE, fair_loop
from streamer.server import listener as module
from streamer.server.listener import Listener
from streamer.server.pieces import ParseQueue, Rank
from streamer.telemetry.metrics import SocketMetrics
from tests.helpers.http_daemon import within
from tests.helpers.waiting import counted_turns, until, until_idle


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


def knows_nobody(_: bytes) -> bool:
    """No key is valid."""
    return False


async def test_an_accept_that_fails_is_counted_told_once_and_slowed() -> None:
    """The socket stays readable all the time: the loop does not spin, and the log does not grow."""
    registry = CollectorRegistry()
    metrics = SocketMetrics(registry)
    listening = Broke()
    listening.bind(("127.0.0.1", 0))
    parse_queue = ParseQueue(asyncio.get_running_loop())
    listener = Listener(listening, refuse, OpenSockets(10, metrics), parse_queue, knows_nobody, None, 60.0, metrics)
    with capture_logs() as lines, socket.socket() as client:
        listener.start()
        client.setblocking(False)
        await asyncio.get_running_loop().sock_connect(client, listening.getsockname())
        await until_idle()
        listener.close()
        await listener.wait_closed()

    assert listening.n_attempts == 1
    assert [line["event"] for line in lines] == ["accept_failed"]
    assert registry.get_sample_value("streamer_accept_errors_total") == 1.0


class Noted(ParseQueue):
    """Notes who comes first."""

    def __init__(self) -> None:
        super().__init__(asyncio.get_running_loop())
        self.ranks: asyncio.Queue[Rank] = asyncio.Queue()

    def add(self, parse: Callable[[], None], rank: Rank) -> None:
        """Note it."""
        self.ranks.put_nowait(rank)
        super().add(parse, rank)


async def test_who_shows_a_key_comes_first_and_is_never_cut() -> None:
    """However many wait for their peer."""
    metrics, parse_queue, protocols = SocketMetrics(CollectorRegistry()), Noted(), list[OpenSocket]()
    sockets = OpenSockets(10, metrics)

    def build(slot: OpenSocket) -> asyncio.Protocol:
        protocols.append(slot)
        return asyncio.Protocol()

    listening = socket.create_server(("127.0.0.1", 0))
    listener = Listener(listening, build, sockets, parse_queue, lambda head: b"key" in head, None, 60.0, metrics)
    listener.start()
    writers = []
    for first, rank in ((b"stranger", Rank.STRANGER), (b"a key", Rank.KNOWN)):
        _, writer = await asyncio.open_connection(*listening.getsockname())
        writer.write(first)
        writers.append(writer)
        assert await within(parse_queue.ranks.get()) is rank
    await until(lambda: len(protocols) == 2)
    assert [slot.is_waiting for slot in protocols] == [True, False]
    _, silent = await asyncio.open_connection(*listening.getsockname())
    await until(lambda: sockets.n_open == 3)
    listener.close()
    await listener.wait_closed()
    assert sockets.n_open == 2
    for writer in (*writers, silent):
        writer.transport.abort()


def test_accepting_does_not_wait_for_all_other_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where hundreds of them are ready, it takes many turns to serve them; in each one client is let in."""
    monkeypatch.setattr(module, "ACCEPT_S", 0.0)
    n_clients = 40

    async def crowded() -> None:
        metrics, loop = SocketMetrics(CollectorRegistry()), asyncio.get_running_loop()
        ready = [socket.socketpair() for _ in range(10 * MOST_AT_ONCE)]
        for ours, theirs in ready:
            theirs.send(b"x")
            loop.add_reader(ours, str)
        listening, sockets = socket.create_server(("127.0.0.1", 0)), OpenSockets(100, metrics)
        listener = Listener(listening, refuse, sockets, ParseQueue(loop), knows_nobody, None, 60.0, metrics)
        listener.start()
        clients = [socket.create_connection(listening.getsockname()) for _ in range(n_clients)]
        async with counted_turns() as turns:
            while (n_open := sockets.n_open) < n_clients:
                await asyncio.sleep(0)
                assert sockets.n_open - n_open <= 1
        assert turns.n < 2 * n_clients
        listener.close()
        await listener.wait_closed()
        for ours, theirs in ready:
            loop.remove_reader(ours)
            ours.close()
            theirs.close()
        for client in clients:
            client.close()

    with asyncio.Runner(loop_factory=fair_loop) as runner:
        runner.run(crowded())
