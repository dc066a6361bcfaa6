"""
Bytes that were received and not parsed: connections take turns, and parse in short pieces.

A buffer of empty frames or of chunks of one byte would hold the event loop for seconds. WebSockets whose handshake is
over come before everybody else: theirs is the audio. Then comes whoever shows a valid key; who has shown none cannot
make the others wait.
"""

from __future__ import annotations

import asyncio
import enum
from collections import deque
from collections.abc import Callable

from streamer.access.open_sockets import OpenSocket
from streamer.server.probe import Probe

MIN_PIECE_BYTES, MAX_PIECE_BYTES = 1024, 65_536
"""Bytes parsed at once: at least as many as 170 empty frames have."""
PIECE_S = 0.002
"""Time that one piece should take, seconds."""
ROUND_S = 0.005
"""Time that connections parse before everything else of the loop runs, seconds."""
ROUND_PIECES = 8
"""Pieces of requests parsed meanwhile: each may begin one, and to answer it takes six times as long as to parse it."""


class Rank(enum.IntEnum):
    """Who comes first."""

    STREAM = 0
    """A WebSocket whose handshake is over."""
    KNOWN = 1
    """Who shows a valid key in its first bytes."""
    STRANGER = 2


def rank_of(slot: OpenSocket | None) -> Rank:
    """Return the rank of a connection before it is a stream: whether its slot, if it has one, has shown a key."""
    return Rank.KNOWN if slot is not None and slot.is_known else Rank.STRANGER


class ParseQueue:
    """
    The connections of a server that have bytes to parse: they parse in rounds, streams first, then all others.

    What is parsed makes more work: requests are answered, connections end. Those that are no streams wait as long as
    all that took beyond ROUND_S: however many they are, they leave half of the loop's time to the streams.

    Args:
        loop: Runs the rounds.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: dict[Rank, deque[Callable[[], None]]] = {rank: deque() for rank in Rank}
        self._is_due = self._do_others_wait = False

    def add(self, parse: Callable[[], None], rank: Rank) -> None:
        """Call a function when its turn comes, before all those of higher ranks."""
        self._waiting[rank].append(parse)
        self._call_soon()

    @property
    def _streams(self) -> deque[Callable[[], None]]:
        return self._waiting[Rank.STREAM]

    @property
    def _others(self) -> deque[Callable[[], None]]:
        """Of the rank whose turn it is; empty: nobody waits."""
        return self._waiting[Rank.KNOWN] or self._waiting[Rank.STRANGER]

    def _call_soon(self) -> None:
        if not self._is_due and (self._streams or (self._others and not self._do_others_wait)):
            self._is_due = True
            self._loop.call_soon(self._run)

    def _run(self) -> None:
        self._is_due, end_s = False, self._loop.time() + ROUND_S
        try:
            while self._streams and self._loop.time() < end_s:
                self._streams.popleft()()
            if self._others and not self._do_others_wait:
                self._serve_others()
        finally:
            self._call_soon()

    def _serve_others(self) -> None:
        self._do_others_wait, began_s = True, self._loop.time()
        try:
            for _ in range(ROUND_PIECES):
                if self._others and self._loop.time() < began_s + ROUND_S:
                    self._others.popleft()()
        finally:
            self._loop.call_soon(self._count, began_s)  # behind all that the round has caused

    def _count(self, began_s: float) -> None:
        beyond_s = self._loop.time() - began_s - ROUND_S
        if beyond_s > 0:
            self._loop.call_later(beyond_s, self._end_wait)
        else:
            self._end_wait()

    def _end_wait(self) -> None:
        self._do_others_wait = False
        self._call_soon()


class Pieces:
    """
    Bytes that were received and not parsed, handed on piece by piece. While some wait, no more are read.

    A piece is as long as what can be parsed in about PIECE_S: long for audio, short for a flood of tiny frames.

    Args:
        parse_queue: Of the server.
        transport: Is paused and resumed, and aborted if a piece cannot be parsed.
        parse: Takes one piece; returns the seconds to wait before the next one.
        may_parse: Whether the next piece may be parsed now; `go_on` asks again.
        most_bytes: Of the next piece.
        rank: Before which other connections it is parsed.
        probe: Asks the peer while it is not read; None: nobody asks.
    """

    def __init__(
        self,
        parse_queue: ParseQueue,
        transport: asyncio.Transport,
        parse: Callable[[bytes], float],
        may_parse: Callable[[], bool],
        *,
        most_bytes: Callable[[], int] = lambda: MAX_PIECE_BYTES,
        rank: Callable[[], Rank] = lambda: Rank.STRANGER,
        probe: Probe | None = None,
    ) -> None:
        self._parse_queue, self._transport, self._parse, self._may_parse = parse_queue, transport, parse, may_parse
        self._most_bytes, self._rank = most_bytes, rank
        self._probe = probe
        self._loop = asyncio.get_running_loop()
        self._rest = bytearray()
        self._size = MIN_PIECE_BYTES
        self._is_queued = self._is_over = False
        self._pause: asyncio.TimerHandle | None = None

    def add(self, data: bytes) -> None:
        """Take bytes, which are parsed in turn."""
        self._rest += data
        if len(self._rest) > MAX_PIECE_BYTES:  # its turn may be far: more of it waits in the kernel
            self._hold()
        self.go_on()

    def go_on(self) -> None:
        """Queue the next piece for parsing; read on if there is none."""
        if self._is_queued or self._pause is not None or self._is_over or not self._may_parse():
            return
        if self._rest:
            self._is_queued = True
            self._parse_queue.add(self._run, self._rank())
        else:
            self._transport.resume_reading()
            if self._probe is not None:
                self._probe.read()

    def take_rest(self) -> bytes:
        """Return the bytes that wait, and parse nothing more."""
        rest = bytes(self._rest)
        self.stop()
        return rest

    def stop(self) -> None:
        """
        Parse nothing more, and hold nothing of the connection.

        Thousands of connections that end at once, each in a circle of references, would be freed by one collection of
        garbage, for which everybody waits.
        """
        self._is_over = True
        self._rest.clear()
        self._parse, self._may_parse, self._most_bytes, self._rank = _wait_forever, _never, _nothing, _stranger
        if self._pause is not None:
            self._pause.cancel()
        if self._probe is not None:
            self._probe.stop()

    def _hold(self) -> None:
        self._transport.pause_reading()
        if self._probe is not None:
            self._probe.hold()

    def _run(self) -> None:
        self._is_queued = False
        if self._is_over or not self._may_parse():
            return
        size = min(self._size, self._most_bytes())
        piece = bytes(self._rest[:size])
        del self._rest[:size]
        began_s = self._loop.time()
        try:
            wait_s = self._parse(piece)
        except BaseException:
            self.stop()
            self._transport.abort()
            raise
        self._adapt(self._loop.time() - began_s)
        if self._rest or wait_s > 0:
            self._hold()
        if wait_s > 0:
            self._pause = self._loop.call_later(wait_s, self._end_pause)
        self.go_on()

    def _adapt(self, took_s: float) -> None:
        if took_s > PIECE_S:
            self._size = max(MIN_PIECE_BYTES, self._size // 2)
        elif took_s < PIECE_S / 4:
            self._size = min(MAX_PIECE_BYTES, self._size * 2)

    def _end_pause(self) -> None:
        self._pause = None
        self.go_on()


def _wait_forever(_: bytes) -> float:
    return float("inf")


def _never() -> bool:
    return False


def _nothing() -> int:
    return 0


def _stranger() -> Rank:
    return Rank.STRANGER
