"""
A gateway's connection to one engine process: calls, pings, and whether it answers.

An engine that answers no ping for two seconds is silent: its calls are given up, and their rows go elsewhere. It may
come back (it was stopped, or starved); then what it still says to calls that were given up is dropped. An engine that
was silent takes work of its own again after a few answers in time.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import math
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import msgspec
import structlog

from streamer.remote import wire

PING_S = 0.5
"""Between two pings, seconds."""
SILENT = 4
"""Pings in a row without an answer from which on an engine is silent."""
HANGING = 60
"""Pings in a row without an answer from which on an engine is lost, and its process is replaced."""
STEADY = 4
"""Pings in a row that were answered before the next one, after which an engine that was silent counts as well."""

RECENT = 128
"""Pings whose answers say how far the engine's clock is ahead: a minute, more than an engine may be silent for."""
SHARED_S = 10.0
"""Time over which the share of the device is taken, seconds."""

log = structlog.get_logger()

Send = Callable[[bytes], None]


class EngineAwayError(Exception):
    """The engine does not answer: it is lost, silent or too slow, or it refuses the call."""


class EngineFullError(EngineAwayError):
    """The engine refuses the call since too many wait there: another one may have room, and so may this one later."""


class EngineLostError(EngineAwayError):
    """The connection to the engine ended: its process is gone."""


@dataclass(slots=True)
class Vitals:
    """The figures of an engine's last pong."""

    text_bytes: int = 0
    audio_bytes: int = 0
    n_rebuilt: int | None = None
    """None: it has told nothing yet."""
    n_speaking: int = 0
    """Sessions of other gateways."""
    resident_bytes: int = 0
    """Memory of its process; 0: it has not told."""


class EngineLink:
    """
    One connection to one engine process, from its `Ready` to its end.

    Args:
        name: Of the engine.
        send: Sends bytes to it.
        ahead_s: How far its monotonic clock is ahead, seconds: at least; 0 in the same machine.
        clock: The monotonic clock, seconds.
    """

    def __init__(
        self, name: str, send: Send, *, ahead_s: float = 0.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.name, self.vitals = name, Vitals()
        self.n_rows = 0
        """Rows that it has answered."""
        self.n_speaking = 0
        """Sessions that speak and whose steps go to it, to be told with the next ping."""
        self.on_change: Callable[[], None] = lambda: None
        """Called when it begins or stops to answer."""
        self.on_rebuilt: Callable[[int], None] = lambda _: None
        """Called with the number of times that its engine was built again in its process since the last call."""
        self._send = send
        self._ids = itertools.count()
        self._calls: dict[int, asyncio.Future[wire.Reply]] = {}
        self._clock = clock
        self._ahead_s = deque([ahead_s], maxlen=RECENT)
        self._busy: deque[tuple[float, float]] = deque(maxlen=1 + math.ceil(SHARED_S / PING_S))
        """Its clock, and the time of its device for all steps, with each of the last pings."""
        self._n_unanswered = 0
        self._n_steady = STEADY
        self._is_lost = self._is_doubted = self._is_unusable = False

    @property
    def is_answering(self) -> bool:
        """Whether it has answered a ping of late."""
        return not self._is_lost and not self._is_unusable and self._n_unanswered < SILENT

    @property
    def is_steady(self) -> bool:
        """Whether it has answered in time for a while, and no call too late."""
        return self.is_answering and self._n_steady >= STEADY and not self._is_doubted

    @property
    def is_hanging(self) -> bool:
        """Whether its process must be replaced: no answer for half a minute, a device that hangs, other weights."""
        return self._n_unanswered >= HANGING or self._is_unusable

    @property
    def n_calls(self) -> int:
        """Calls that wait for an answer."""
        return len(self._calls)

    @property
    def ahead_s(self) -> float:
        """
        How far its monotonic clock is ahead of the one here, seconds.

        The most that the last answers to pings have shown: each was under way for a while, the fastest one for least.
        """
        return max(self._ahead_s)

    @property
    def share(self) -> float:
        """Part of the last `SHARED_S` for which its device ran steps."""
        if len(self._busy) < 2:
            return 0.0
        (began_s, before_s), (now_s, busy_s) = self._busy[0], self._busy[-1]
        return (busy_s - before_s) / max(now_s - began_s, PING_S)  # answers may come close together

    # --- calls

    def begin(self, call: wire.Call) -> tuple[asyncio.Future[wire.Reply], int]:
        """
        Send a call.

        Returns:
            A future that gets the reply or an `EngineAwayError`, and the bytes sent. Cancelling it gives the call up.

        Raises:
            EngineAwayError: It does not answer now.
        """
        if not self.is_answering:
            raise EngineAwayError(f"engine {self.name} does not answer")
        number = next(self._ids)
        frame = wire.pack(msgspec.structs.replace(call, id=number))
        answer: asyncio.Future[wire.Reply] = asyncio.get_running_loop().create_future()
        self._calls[number] = answer
        answer.add_done_callback(lambda _: self._calls.pop(number, None))
        self._send(frame)
        return answer, len(frame)

    def forget(self, sessions: tuple[str, ...]) -> None:
        """Tell that sessions are over."""
        if not self._is_lost:
            self._send(wire.pack(wire.Forget(sessions=sessions)))

    def doubt(self) -> None:
        """A call takes too long: until the engine has answered one, work goes elsewhere where it can."""
        self._is_doubted = True

    # --- what it says

    def take(self, message: wire.FromEngine) -> None:
        """Take one message; the answer to a call that was given up is dropped."""
        match message:
            case wire.Reply(id=number):
                self.n_rows += len(message.rows)
                self._trust()
                if answer := self._waiting(number):
                    answer.set_result(message)
            case wire.Refused(id=number, reason=reason):
                self._trust()
                self._is_unusable = self._is_unusable or reason == "fingerprint"
                if answer := self._waiting(number):
                    error = EngineFullError if reason == "full" else EngineAwayError
                    answer.set_exception(error(f"engine {self.name} refuses a call: {reason}"))
            case wire.Pong():
                before = self.vitals.n_rebuilt
                if before is not None and (n_more := message.n_rebuilt - before):  # not those before this connection
                    self.on_rebuilt(n_more)
                self.vitals = Vitals(
                    text_bytes=message.text_bytes,
                    audio_bytes=message.audio_bytes,
                    n_rebuilt=message.n_rebuilt,
                    n_speaking=message.n_speaking,
                    resident_bytes=message.resident_bytes,
                )
                self._is_unusable = self._is_unusable or not message.is_alive
                self._note_clock(message)
                self._answered()
            case _:
                log.warning("engine_message_unexpected", engine=self.name, kind=type(message).__name__)

    def _note_clock(self, pong: wire.Pong) -> None:
        if pong.clock_s is not None:
            self._ahead_s.append(pong.clock_s - self._clock())
            self._busy.append((pong.clock_s, pong.busy_s))

    def _trust(self) -> None:
        if self._is_doubted:
            self._is_doubted = False
            self.on_change()

    def _waiting(self, number: int) -> asyncio.Future[wire.Reply] | None:
        answer = self._calls.get(number)
        return answer if answer and not answer.done() else None

    # --- pings

    def tick(self) -> None:
        """Send a ping, and notice that earlier ones have not been answered; to be called every `PING_S`."""
        if self._is_lost:
            return
        if self._n_unanswered == 0:
            self._n_steady += 1
            if self._n_steady == STEADY:
                self.on_change()
        self._n_unanswered += 1
        if self._n_unanswered == SILENT:
            log.error("engine_silent", engine=self.name, seconds=SILENT * PING_S)
            self._n_steady = 0
            self._give_up(EngineAwayError(f"engine {self.name} is silent"))
        self._send(wire.pack(wire.Ping(n_speaking=self.n_speaking)))

    def _answered(self) -> None:
        was_answering = self.is_answering
        self._n_unanswered = 0
        if not was_answering:
            log.warning("engine_answers_again", engine=self.name)
            self.on_change()

    def lose(self, *, is_gone: bool = True) -> None:
        """The connection is over, and so is the process if that is known: every call is given up."""
        self._is_lost = True
        error = EngineLostError if is_gone else EngineAwayError
        self._give_up(error(f"engine {self.name} is lost"))

    def _give_up(self, error: EngineAwayError) -> None:
        for answer in list(self._calls.values()):
            if not answer.done():
                answer.set_exception(error)
        self.on_change()


async def read_ready(reader: asyncio.StreamReader) -> wire.Ready:
    """Read the first message of an engine, once it is loaded; raises WireError where it is of another version."""
    message = wire.from_engine(await wire.FRAMING.read(reader))
    if not isinstance(message, wire.Ready) or message.version != wire.VERSION:
        raise wire.WireError(f"expected an engine with messages of version {wire.VERSION}")
    return message


async def run_link(
    link: EngineLink, reader: asyncio.StreamReader, is_gone: Callable[[], Awaitable[bool]] | None = None
) -> None:
    """
    Take what an engine says and ping it, until it is lost or hangs.

    Args:
        link: Of the engine.
        reader: Its messages.
        is_gone: Whether its process has ended, when the connection has; None: it ends with the connection.
    """
    has_ended = False
    pings = asyncio.create_task(_ping(link))
    reading = asyncio.create_task(_read(link, reader))
    try:
        await asyncio.wait({pings, reading}, return_when=asyncio.FIRST_COMPLETED)
        has_ended = is_gone is None or await is_gone()
    finally:
        link.lose(is_gone=has_ended)
        for task in (pings, reading):
            task.cancel()
    if reading.done() and not reading.cancelled() and (error := reading.exception()):
        raise error


async def _ping(link: EngineLink) -> None:
    while not link.is_hanging:
        link.tick()
        await asyncio.sleep(PING_S)
    log.error("engine_hangs", engine=link.name)


async def _read(link: EngineLink, reader: asyncio.StreamReader) -> None:
    with contextlib.suppress(asyncio.IncompleteReadError, OSError):  # a machine that vanished is a TimeoutError
        while True:
            link.take(wire.from_engine(await wire.FRAMING.read(reader)))
