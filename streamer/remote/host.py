"""
The host of an engine process: runs the calls of gateways, several of them as one step.

All rows that wait when a step begins form it: ends of turns first, then in the order of arrival, one row of a session,
as many as the gateways allow. A call whose deadline has passed is not run: nobody waits for it any more. A gateway that
gives a call up may send it again, here or to another engine; steps change nothing but caches, so no harm is done.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import structlog

from streamer.errors import EngineError
from streamer.host.memory import resident_bytes
from streamer.remote import wire
from streamer.remote.held_windows import HeldWindows
from streamer.remote.revision_host import RevisionHost
from streamer.scheduling.calibration import Clocks
from streamer.scheduling.decoder import Answer, LocalDecoder
from streamer.step import Engine, StepRequest
from streamer.telemetry.metrics import StepTimes

MAX_WAITING = 4096
"""Rows that wait; the calls of more are refused, and their gateways look for another engine."""
MAX_TIMES = 256
"""Steps whose times wait for the next reply; older ones are dropped."""

log = structlog.get_logger()


class HostedEngine(Engine, Protocol):
    """An engine that tells what it has cached."""

    @property
    def cache_bytes(self) -> tuple[int, int]:
        """Bytes of keys and values of text and of audio."""


class StepTimesQueue:
    """Takes the times of steps as `EngineMetrics` does, and hands them on; filled on the device thread."""

    def __init__(self) -> None:
        self._times: list[StepTimes] = []

    def stepped(self, times: StepTimes) -> None:
        """Keep the times of a step."""
        self._times.append(times)
        del self._times[:-MAX_TIMES]

    def take(self) -> tuple[StepTimes, ...]:
        """The times since the last call."""
        taken, self._times = self._times, []
        return tuple(taken)


@dataclass(eq=False, slots=True)
class _Call:
    """A call and the answers that it has so far."""

    message: wire.Call
    send: Callable[[wire.Message], None]
    answers: dict[int, wire.RowAnswer] = field(default_factory=dict)


@dataclass(eq=False, slots=True)
class _Waiting:
    """A row that waits."""

    call: _Call
    index: int
    request: StepRequest


class EngineHost:
    """
    Runs the calls of any number of gateways on one engine.

    Args:
        decoder: Runs steps.
        engine: That of the decoder; it is asked on the decoder's thread.
        fingerprint: Of the weights; calls for others are refused.
        n_mels: Mel bands of the model.
        max_batch: Rows of a step at most.
        times: Where the engine puts the times of its steps.
        n_rebuilt: Times that the engine was built again.
        clocks: What measures timed calls.
        revisions: Runs second passes; it has to be run too.
        clock: The monotonic clock of deadlines, seconds.
    """

    def __init__(
        self,
        decoder: LocalDecoder,
        engine: HostedEngine,
        *,
        fingerprint: str,
        n_mels: int,
        max_batch: int,
        times: StepTimesQueue,
        n_rebuilt: Callable[[], int],
        clocks: Clocks,
        revisions: RevisionHost,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._decoder, self._engine, self._times, self._n_rebuilt = decoder, engine, times, n_rebuilt
        self._fingerprint, self._n_mels, self._max_batch, self._clock = fingerprint, n_mels, max_batch, clock
        self.windows = HeldWindows(n_mels)
        self._clocks, self.revisions = clocks, revisions
        self._work = asyncio.Event()
        self._waiting: list[_Waiting] = []
        self._timed: list[_Call] = []
        self._forgotten: list[str] = []
        self._speaking = Counter[Hashable]()
        """Sessions that speak, by gateway."""
        self._busy_s = 0.0

    @property
    def is_alive(self) -> bool:
        """Whether the device answers."""
        return self._decoder.is_alive

    # --- connections

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """
        Take the messages of one gateway until it leaves.

        Raises:
            WireError: It sent what is no message.
        """

        def send(message: wire.Message) -> None:
            if not writer.is_closing():
                writer.write(wire.pack(message))

        try:
            with contextlib.suppress(asyncio.IncompleteReadError, OSError):  # a machine that vanished is a TimeoutError
                while True:
                    self.take(wire.from_gateway(await wire.FRAMING.read(reader)), send, writer)
        finally:
            del self._speaking[writer]

    def take(self, message: wire.FromGateway, send: Callable[[wire.Message], None], gateway: Hashable = None) -> None:
        """
        Take one message; `run` answers calls.

        Args:
            message: Of a gateway.
            send: Sends a message to it.
            gateway: Tells it from others that speak on this engine.

        Raises:
            WireError: A row does not hold the frames that it announces.
        """
        match message:
            case wire.Call():
                self._take_call(message, send)
            case wire.Forget(sessions=sessions):
                self.windows.forget(sessions)
                self._forgotten += sessions
            case wire.Ping(n_speaking=n_speaking):
                self._speaking[gateway] = n_speaking
                send(self._pong(n_speaking))
            case wire.Begin():
                raise wire.WireError("begin: this engine has begun")
        self._work.set()

    def _pong(self, n_speaking: int) -> wire.Pong:
        """The answer to a ping of a gateway with so many sessions that speak."""
        text_bytes, audio_bytes = map(sum, zip(self._engine.cache_bytes, *self.revisions.cache_bytes, strict=True))
        return wire.Pong(
            is_alive=self.is_alive,
            text_bytes=text_bytes,
            audio_bytes=audio_bytes,
            n_rebuilt=self._n_rebuilt(),
            n_speaking=self._speaking.total() - n_speaking,
            clock_s=self._clock(),
            busy_s=self._busy_s,
            resident_bytes=resident_bytes(),
        )

    def _take_call(self, message: wire.Call, send: Callable[[wire.Message], None]) -> None:
        if message.fingerprint != self._fingerprint:
            send(wire.Refused(id=message.id, reason="fingerprint"))
        elif len(self._waiting) + len(message.rows) > MAX_WAITING:
            send(wire.Refused(id=message.id, reason="full"))
        elif message.reviser:
            self.revisions.put(message, send)
        elif message.is_timed:
            self._timed.append(_Call(message, send))
        else:
            self._take_rows(_Call(message, send))

    def _take_rows(self, call: _Call) -> None:
        """Let the rows of a call wait, but for those whose window is not held."""
        for index, row in enumerate(call.message.rows):
            if request := self.windows.whole(row):
                self._waiting.append(_Waiting(call, index, request))
            else:
                call.answers[index] = wire.RowAnswer(needs_all=True)
        self._reply_if_whole(call, 0.0, 0)

    # --- steps

    async def run(self) -> None:
        """
        Run what waits, until cancelled.

        Raises:
            DeviceLostError: The device does not recover.
        """
        while True:
            await self._work.wait()
            self._work.clear()
            while await self._run_next():
                pass

    async def _run_next(self) -> bool:
        """Release sessions that are over, then run one step; whether there was one."""
        if self._forgotten:
            forgotten, self._forgotten = self._forgotten, []
            await self._decoder.forget(forgotten)
        self._drop_late()
        if rows := self._next_rows():
            await self._step(rows)
        elif self._timed:
            await self._time(self._timed.pop(0))
        else:
            return False
        return True

    def _drop_late(self) -> None:
        now_s = self._clock()
        late = {row.call for row in self._waiting if row.call.message.deadline_s < now_s}
        self._waiting = [row for row in self._waiting if row.call not in late]
        for call in late | {call for call in self._timed if call.message.deadline_s < now_s}:
            call.send(wire.Refused(id=call.message.id, reason="late"))
        self._timed = [call for call in self._timed if call.message.deadline_s >= now_s]

    def _next_rows(self) -> list[_Waiting]:
        """Take the rows of the next step off the queue: ends of turns first, and one row of each session."""
        most = min(self._max_batch, max((row.call.message.most_rows for row in self._waiting), default=0))
        first_of: dict[str, _Waiting] = {}
        for row in sorted(self._waiting, key=lambda row: not row.request.final):
            first_of.setdefault(row.request.session, row)
        rows = list(first_of.values())[: max(1, most)]
        self._waiting = [row for row in self._waiting if row not in rows]
        return rows

    async def _step(self, rows: Sequence[_Waiting]) -> None:
        stepped = await self._decoder.step([row.request for row in rows])
        self._busy_s += stepped.seconds
        for row, answer in zip(rows, stepped.answers, strict=True):
            row.call.answers[row.index] = _answer_of(answer)
        for call in dict.fromkeys(row.call for row in rows):
            self._reply_if_whole(call, stepped.seconds, stepped.n_rows)

    def _reply_if_whole(self, call: _Call, seconds: float, n_rows: int) -> None:
        """Send the answers of a call once it has all, with the cost of the step that held its last row."""
        if len(call.answers) == len(call.message.rows):
            answers = tuple(call.answers[index] for index in range(len(call.answers)))
            self._reply(call, answers, seconds, n_rows)

    async def _time(self, call: _Call) -> None:
        requests = [wire.request_of(row, self._n_mels) for row in call.message.rows]
        try:
            timing = await self._decoder.time_step(requests, self._clocks)
        except EngineError as error:
            self._reply(call, (wire.RowAnswer(error=str(error)),), 0.0, len(requests))
        else:
            self._reply(call, (), timing.wall_s, len(requests), timing.work_s)

    def _reply(
        self, call: _Call, answers: tuple[wire.RowAnswer, ...], seconds: float, n_rows: int, work_s: float = 0.0
    ) -> None:
        call.send(
            wire.Reply(
                id=call.message.id,
                rows=answers,
                seconds=seconds,
                n_rows=n_rows,
                work_s=work_s,
                times=self._times.take(),
            )
        )


def _answer_of(answer: Answer) -> wire.RowAnswer:
    return wire.RowAnswer(error=str(answer)) if isinstance(answer, EngineError) else wire.RowAnswer(result=answer)
