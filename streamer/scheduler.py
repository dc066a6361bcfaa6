"""
Who is heard and decoded next.

One loop: hear what has come in for every stream, step the sessions that are due, hand out the events, repeat. The
front end and the engine run on one thread that owns the device; while they run, the event loop keeps receiving, so
whatever came in meanwhile forms the next batch. Ends of turns go before partial captions; within each kind whoever
has waited longest goes first; a session has at most one step in flight.
"""

from __future__ import annotations

import asyncio
import hmac
import secrets
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import structlog
from torch import Tensor

from streamer.errors import EngineError, OverloadError
from streamer.events import Event
from streamer.frontend import FrontEnd, Heard
from streamer.load import LoadMeter
from streamer.mel import SAMPLE_RATE
from streamer.metrics import ServiceMetrics
from streamer.options import SessionOptions
from streamer.session import Session, Step, WindowOptions
from streamer.step import Engine, StepResult
from streamer.stream import Stream
from streamer.tokenizer import Tokenizer

MAX_FAILURES = 3
"""Steps of one session that may fail in a row before it is given up."""
HEAR_AT_MOST_S = 0.3
"""Audio of one stream heard between two steps, so that audio sent faster than real time meets as many steps."""
LIVENESS_S = 30.0
"""A step that takes longer than this means the device hangs."""

T = TypeVar("T")
log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class SchedulerOptions:
    """Bounds of the service."""

    max_batch: int = 16
    """Rows of one step."""
    max_backlog_s: float = 30.0
    """Unheard audio of one stream, seconds, before its sender is slowed down."""
    resume_s: float = 30.0
    """A session without connection is kept this long, seconds."""
    tick_s: float = 0.02
    """Shortest time between two rounds: chunks that arrive together are heard together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SchedulerStatistics:
    """What the scheduler is doing now."""

    n_sessions: int
    n_speaking: int
    capacity: int
    interval_s: float
    """Present interval between partial steps."""
    row_cost_s: float
    worst_lag_s: float
    n_steps: int


class Scheduler:
    """
    Args:
        model: Name of the model.
        engine: Runs steps; used by the device thread alone.
        front_end: Hears samples; used by the device thread alone.
        tokenizer: Of the model.
        n_mels: Mel bands of the model.
        meter: Knows the cost of a step.
        options: See `SchedulerOptions`.
        window: See `WindowOptions`.
        metrics: Where to count.
    """

    def __init__(
        self,
        model: str,
        engine: Engine,
        front_end: FrontEnd,
        tokenizer: Tokenizer,
        n_mels: int,
        meter: LoadMeter,
        options: SchedulerOptions,
        window: WindowOptions,
        metrics: ServiceMetrics,
    ) -> None:
        self.model = model
        self.languages = tuple(tokenizer.languages)
        self._engine, self._front_end, self._tokenizer, self._n_mels = engine, front_end, tokenizer, n_mels
        self._meter, self._options, self._window, self._metrics = meter, options, window, metrics
        self._device = ThreadPoolExecutor(1, "device")
        self._streams: dict[str, Stream] = {}
        self._work = asyncio.Event()
        self._left = asyncio.Event()
        self._draining = False
        self._running = False
        self._n_steps = 0
        self._busy_since: float | None = None
        metrics.capacity.set_function(lambda: self._meter.capacity)
        metrics.sessions.set_function(lambda: len(self._streams))

    # --- sessions

    def open(
        self,
        options: SessionOptions,
        *,
        session: str | None = None,
        token: str | None = None,
        offset_s: float = 0.0,
        context: str = "",
    ) -> Stream:
        """
        A new session.

        Args:
            options: Checked against the model by the caller (`languages`).
            session: Its name; by default a random one.
            token: What a client must show to resume it; by default a random one.
            offset_s: Stream time of its first sample.
            context: Text before it.

        Raises:
            OverloadError: The daemon is full or going down.
        """
        if self._draining:
            raise OverloadError("the daemon is shutting down: connect again in a moment", retry_after_s=5.0)
        if len(self._streams) >= self._meter.capacity:
            self._metrics.refused.inc()
            raise OverloadError(
                f"no free place: {len(self._streams)} of {self._meter.capacity} sessions open; try again later",
                retry_after_s=10.0,
            )
        stream = Stream(
            Session(
                session or f"s_{secrets.token_urlsafe(9)}",
                options,
                self._window,
                self._tokenizer,
                self._n_mels,
                offset_s=offset_s,
                context=context,
            ),
            token=token or f"r_{secrets.token_urlsafe(18)}",
            max_backlog_s=self._options.max_backlog_s,
            wake=self._work.set,
            on_detach=self._detached,
        )
        self._streams[stream.id] = stream
        self._metrics.opened.inc()
        return stream

    def resume(self, session: str, token: str) -> Stream | None:
        """The session of that name, if its connection is gone, it is still kept, and the token is its own."""
        stream = self._streams.get(session)
        if stream is None or stream.expiry is None or not hmac.compare_digest(stream.token, token):
            return None
        stream.expiry.cancel()
        stream.expiry = None
        return stream

    def _detached(self, stream: Stream) -> None:
        if stream.id in self._streams and stream.expiry is None:
            loop = asyncio.get_running_loop()
            stream.expiry = loop.call_later(0 if self._draining else self._options.resume_s, stream.end)

    async def drain(self, deadline_s: float) -> None:
        """Take no more sessions, end all, and wait until each has said `Bye`, at most `deadline_s` seconds."""
        self._draining = True
        for stream in self._streams.values():
            stream.end()
        try:
            async with asyncio.timeout(deadline_s):
                while self._streams:
                    self._left.clear()
                    await self._left.wait()
        except TimeoutError:
            log.warning("drain_incomplete", sessions=len(self._streams))

    # --- state

    def is_ready(self) -> bool:
        """Whether the loop runs and the device answers."""
        hanging = self._busy_since is not None and time.monotonic() - self._busy_since > LIVENESS_S
        return self._running and not hanging and not self._draining

    def statistics(self) -> SchedulerStatistics:
        """What the scheduler is doing now."""
        speaking = [s for s in self._streams.values() if s.session.is_speaking]
        return SchedulerStatistics(
            n_sessions=len(self._streams),
            n_speaking=len(speaking),
            capacity=self._meter.capacity,
            interval_s=self._meter.interval_s(len(speaking)),
            row_cost_s=self._meter.row_cost_s,
            worst_lag_s=max((s.session.lag_s + s.unheard_s for s in speaking), default=0.0),
            n_steps=self._n_steps,
        )

    # --- the loop

    async def run(self) -> None:
        """Serve until cancelled. An error that is not a failed step ends the daemon: it must not limp on."""
        self._running = True
        try:
            while True:
                await self._work.wait()
                self._work.clear()
                started = time.monotonic()
                while await self._round():
                    pass
                await asyncio.sleep(max(0.0, self._options.tick_s - (time.monotonic() - started)))
        finally:
            self._running = False
            self._device.shutdown(wait=False, cancel_futures=True)

    async def _round(self) -> bool:
        """Hear, step, say; whether there is more to do at once."""
        await self._hear([s for s in self._streams.values() if s.has_input and not s.session.is_full])
        due = self._due()
        if due:
            await self._step(due[: self._options.max_batch])
        for stream in [s for s in self._streams.values() if s.is_over]:
            self._close(stream)
        return bool(due) or any(s.has_input and not s.session.is_full for s in self._streams.values())

    async def _hear(self, streams: Sequence[Stream]) -> None:
        if not streams:
            return
        samples = [stream.take_samples(int(HEAR_AT_MOST_S * SAMPLE_RATE)) for stream in streams]
        heard = await self._on_device(lambda: self._listen(streams, samples))
        for stream, sound, block in zip(streams, heard, samples, strict=True):
            self._metrics.audio.inc(block.shape[0] / SAMPLE_RATE)
            self._say(stream, stream.session.hear(sound.frames, sound.probabilities))
            for command in stream.take_commands():
                self._say(stream, command.apply(stream.session))

    def _listen(self, streams: Sequence[Stream], samples: Sequence[Tensor]) -> list[Heard]:
        return self._front_end.listen([stream.ear for stream in streams], samples)

    def _due(self) -> list[Stream]:
        """Sessions that want a step now, in the order in which they get it."""
        n_speaking = sum(s.session.is_speaking for s in self._streams.values())
        interval_s = self._meter.interval_s(n_speaking)
        due = [s for s in self._streams.values() if s.session.is_due(interval_s)]
        self._metrics.queue.set(len(due))
        self._metrics.lag.set(max((s.session.lag_s for s in due), default=0.0))
        return sorted(due, key=lambda s: (not s.session.wants_final, -s.session.lag_s))

    async def _step(self, streams: Sequence[Stream]) -> None:
        steps = [stream.session.next_step() for stream in streams]
        started = time.perf_counter()
        results = await self._on_device(lambda: self._results(steps))
        elapsed = time.perf_counter() - started
        self._n_steps += 1
        self._meter.observe(elapsed, len(streams))
        self._metrics.step.observe(elapsed * 1e3)
        self._metrics.batch.observe(len(streams))
        for stream, step, result in zip(streams, steps, results, strict=True):
            if isinstance(result, EngineError):
                self._failed(stream, result)
            else:
                stream.n_failures = 0
                self._say(stream, stream.session.apply(step, result))

    def _results(self, steps: Sequence[Step]) -> Sequence[StepResult | EngineError]:
        """On the device thread: one step, or if it fails each row alone, so that one bad row hurts no other."""
        try:
            return self._engine.step([step.request for step in steps])
        except EngineError as error:
            if len(steps) == 1:
                return [error]
        return [result for step in steps for result in self._results([step])]

    def _failed(self, stream: Stream, error: EngineError) -> None:
        self._metrics.failures.inc()
        stream.n_failures += 1
        log.error("step_failed", session=stream.id, failures=stream.n_failures, error=str(error))
        stream.session.failed()
        if stream.n_failures >= MAX_FAILURES:
            stream.fail(EngineError(f"{MAX_FAILURES} steps failed in a row: the session cannot go on"))

    async def _on_device(self, call: Callable[[], T]) -> T:
        self._busy_since = time.monotonic()
        try:
            return await asyncio.get_running_loop().run_in_executor(self._device, call)
        finally:
            self._busy_since = None

    def _say(self, stream: Stream, events: list[Event]) -> None:
        for word in stream.session.take_newly_stable():
            self._metrics.words.inc()
            self._metrics.commit.observe(max(0.0, stream.received_s - word.end_s))
        stream.say(events)

    def _close(self, stream: Stream) -> None:
        del self._streams[stream.id]
        if stream.expiry:
            stream.expiry.cancel()
        self._left.set()
        log.info(
            "session_ended",
            session=stream.id,
            audio_s=round(stream.received_s, 1),
            turns=stream.session.n_turns,
            steps=stream.session.n_steps,
        )
