"""Tests of streamer/server/pieces.py: whose turn it is, and what waits meanwhile."""

from __future__ import annotations

import asyncio
import functools
from collections import deque
from collections.abc import Callable
from typing import cast

from streamer.server.pieces import MAX_PIECE_BYTES, MIN_PIECE_BYTES, ROUND_PIECES, ROUND_S, ParseQueue, Pieces, Rank
from tests.helpers.waiting import until_idle


class Reading(asyncio.Transport):
    """Notes whether it is read."""

    is_read = True

    def pause_reading(self) -> None:
        """Read nothing."""
        self.is_read = False

    def resume_reading(self) -> None:
        """Read on."""
        self.is_read = True


async def test_who_comes_first_is_served_first() -> None:
    """However many others wait, and the others get their turn as well."""
    parse_queue, served = ParseQueue(asyncio.get_running_loop()), list[str]()
    for n in range(3):
        parse_queue.add(lambda n=n: served.append(f"stranger {n}"), Rank.STRANGER)  # type: ignore[misc]
    parse_queue.add(lambda: served.append("user"), Rank.KNOWN)
    parse_queue.add(lambda: served.append("stream"), Rank.STREAM)
    await until_idle()

    assert served == ["stream", "user", "stranger 0", "stranger 1", "stranger 2"]


class SlowLoop:
    """A loop in which time passes only by work."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self._soon: deque[Callable[[], None]] = deque()
        self._later: list[tuple[float, Callable[[], None]]] = []

    def time(self) -> float:
        """Seconds."""
        return self.now_s

    def call_soon(self, call: Callable[..., None], *arguments: object) -> None:
        """Behind what is due."""
        self._soon.append(functools.partial(call, *arguments))

    def call_later(self, delay_s: float, call: Callable[..., None]) -> None:
        """At its time."""
        self._later.append((self.now_s + delay_s, call))

    def work(self, seconds: float) -> None:
        """Time passes."""
        self.now_s += seconds

    def run(self) -> None:
        """All that is due, then what comes later."""
        while self._soon or self._later:
            while self._soon:
                self._soon.popleft()()
            if self._later:
                self._later.sort(key=lambda item: item[0])
                at_s, call = self._later.pop(0)
                self.now_s = max(self.now_s, at_s)
                self.call_soon(call)


def test_others_leave_half_of_the_time() -> None:
    """What they cause counts: the next of them waits as long, while those that come first do not wait."""
    loop, served = SlowLoop(), list[tuple[str, float]]()
    parse_queue = ParseQueue(cast(asyncio.AbstractEventLoop, loop))

    def stranger() -> None:
        served.append(("stranger", round(loop.now_s, 3)))
        loop.work(ROUND_S)
        loop.call_soon(loop.work, 0.020)

    def stream() -> None:
        served.append(("stream", round(loop.now_s, 3)))

    parse_queue.add(stranger, Rank.STRANGER)
    parse_queue.add(stranger, Rank.STRANGER)
    loop.call_later(0.030, lambda: parse_queue.add(stream, Rank.STREAM))
    loop.run()

    assert served == [("stranger", 0.0), ("stream", 0.03), ("stranger", 0.045)]


def test_few_requests_begin_at_once() -> None:
    """What else is due runs between them, however short they are."""
    loop, happened = SlowLoop(), list[str]()
    parse_queue = ParseQueue(cast(asyncio.AbstractEventLoop, loop))

    def request() -> None:
        happened.append("request")
        loop.call_soon(lambda: happened.append("answer"))

    for _ in range(2 * ROUND_PIECES):
        parse_queue.add(request, Rank.STRANGER)
    loop.run()

    assert happened == 2 * (["request"] * ROUND_PIECES + ["answer"] * ROUND_PIECES)


async def test_what_fails_keeps_no_turn_from_others() -> None:
    """The error goes to the loop."""
    loop, served, errors = asyncio.get_running_loop(), list[str](), list[object]()
    loop.set_exception_handler(lambda _, context: errors.append(context["exception"]))
    parse_queue = ParseQueue(loop)
    parse_queue.add(lambda: [][0], Rank.STREAM)
    parse_queue.add(lambda: served.append("other"), Rank.STRANGER)
    await until_idle()

    assert served == ["other"]
    assert len(errors) == 1


async def test_a_peer_whose_turn_is_far_is_not_read_further() -> None:
    """What it sends meanwhile stays in the kernel; once all is parsed it is read again."""
    transport, parsed = Reading(), list[bytes]()

    def parse(piece: bytes) -> float:
        parsed.append(piece)
        return 0.0

    pieces = Pieces(ParseQueue(asyncio.get_running_loop()), transport, parse, lambda: True)
    pieces.add(bytes(MAX_PIECE_BYTES + 1))
    assert not transport.is_read
    await until_idle()

    assert transport.is_read
    assert b"".join(parsed) == bytes(MAX_PIECE_BYTES + 1)


async def test_a_piece_is_as_long_as_its_connection_allows() -> None:
    """A head of a request is read in short ones."""
    parsed = list[int]()

    def parse(piece: bytes) -> float:
        parsed.append(len(piece))
        return 0.0

    parse_queue = ParseQueue(asyncio.get_running_loop())
    pieces = Pieces(parse_queue, Reading(), parse, lambda: True, most_bytes=lambda: MIN_PIECE_BYTES)
    pieces.add(bytes(10 * MIN_PIECE_BYTES))
    await until_idle()

    assert parsed == [MIN_PIECE_BYTES] * 10
