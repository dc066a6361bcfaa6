"""Tests of streamer/host/event_loop.py: sockets in turn."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import selectors
import socket
from collections.abc import Iterator

import pytest

from streamer.host.event_loop import MOST_AT_ONCE, FairSelector, fair_loop

N = 2 * MOST_AT_ONCE + 10


@pytest.fixture
def readable() -> Iterator[list[socket.socket]]:
    """Sockets that have a byte to read."""
    with contextlib.ExitStack() as stack:
        near, far = zip(*(map(stack.enter_context, socket.socketpair()) for _ in range(N)), strict=True)
        for other in far:
            other.send(b"x")
        yield list(near)


def told(selector: FairSelector) -> list[int]:
    """Descriptors that are ready now."""
    return [key.fd for key, _ in selector.select(0)]


def test_everybody_is_told_of_in_turn(readable: list[socket.socket]) -> None:
    """A few at a time, each once before anybody comes a second time."""
    with FairSelector() as selector:
        for one in readable:
            selector.register(one, selectors.EVENT_READ)
        turns = [told(selector) for _ in range(3)]

        assert [len(turn) for turn in turns] == [MOST_AT_ONCE, MOST_AT_ONCE, 10]
        assert sorted(itertools.chain(*turns)) == sorted(one.fileno() for one in readable)


def test_who_is_watched_no_more_is_not_told_of(readable: list[socket.socket]) -> None:
    """Nor who is watched for something else now."""
    with FairSelector() as selector:
        for one in readable:
            selector.register(one, selectors.EVENT_READ)
        first = told(selector)
        for one in readable:
            if one.fileno() not in first:
                selector.unregister(one)
        assert told(selector) == []
        assert told(selector) == []
        assert len(told(selector)) == MOST_AT_ONCE


def test_others_get_their_turn_between_sockets(readable: list[socket.socket]) -> None:
    """However many are ready at once."""
    served, seen = list[int](), list[int]()

    async def serve() -> None:
        loop = asyncio.get_running_loop()

        def take(one: socket.socket) -> None:
            loop.remove_reader(one)
            served.append(one.fileno())

        for one in readable:
            loop.add_reader(one, take, one)
        while len(served) < N:
            seen.append(len(served))
            await asyncio.sleep(0)

    with asyncio.Runner(loop_factory=fair_loop) as runner:
        runner.run(serve())

    steps = [after - before for before, after in zip(seen, [*seen[1:], N], strict=True)]
    assert max(steps) <= MOST_AT_ONCE
