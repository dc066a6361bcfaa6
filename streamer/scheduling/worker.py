"""
One device thread and the streams that it serves.

One loop: hear what has come in for every stream, step the sessions that are due, hand out the events, repeat. Front
end and engine run on the worker's own thread; while they run, the event loop keeps receiving, so whatever came in
meanwhile forms the next batch. Ends of turns go before partial captions; within each kind whoever has waited longest
goes first; a session has at most one step in flight.

A GPU has one worker. A CPU has one worker of one thread for each core (docs/experiments.md has the measurements).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import structlog
import torch
from torch import Tensor

from streamer.audio.frontend import Features, FrontEnd
from streamer.audio.mel import SAMPLE_RATE
from streamer.errors import EngineError
from streamer.protocol.events import Event
from streamer.scheduling.load import LoadMeter
from streamer.scheduling.session_handle import SessionHandle
from streamer.session.audio_window import MAX_AUDIO_S
from streamer.session.session import Step
from streamer.step import Engine, StepResult
from streamer.telemetry.metrics import ServiceMetrics
from streamer.telemetry.tracing import NoSpans, StepTracer

MAX_FAILURES = 3
"""Steps of one session that may fail in a row before it is given up."""
MIN_HEARD_S = 1.0
"""Audio of one stream that may be heard at once, however little time has passed."""
CATCH_UP = 1.2
"""How much faster than real time a late stream is heard."""
EARLY = 0.5
"""Part of the interval after which a session may join a step that others are due for: who steps together is due
together again, and a row of a full batch costs half as much as a row alone."""
LIVENESS_S = 30.0
"""A step that takes longer than this means the device hangs."""

T = TypeVar("T")
log = structlog.get_logger()


def most_heard_s(passed_s: float) -> float:
    """
    Seconds of each stream to hear in a round that begins so long after the last one.

    A little more than has passed, so that slow steps make nobody fall behind; at least `MIN_HEARD_S`, which is how
    audio that was sent faster than real time is taken.
    """
    return min(max(passed_s * CATCH_UP, MIN_HEARD_S), MAX_AUDIO_S)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerOptions:
    """How a worker works."""

    tick_s: float = 0.02
    """Shortest time between two rounds, seconds: chunks that arrive together are heard together."""
    n_threads: int = 1
    """CPU threads of the device thread's own products."""


class Worker:
    """
    Args:
        engine: Runs steps; used by this worker's thread alone.
        front_end: Hears samples; has no state, so workers may share it.
        meter: Knows the cost of this worker's steps.
        options: See `WorkerOptions`.
        metrics: Where to count.
        tracer: Told of each step.
    """

    def __init__(
        self,
        engine: Engine,
        front_end: FrontEnd,
        meter: LoadMeter,
        options: WorkerOptions,
        metrics: ServiceMetrics,
        tracer: StepTracer | None = None,
    ) -> None:
        self.meter = meter
        self.streams: dict[str, SessionHandle] = {}
        self.n_steps = 0
        self.on_closed: Callable[[SessionHandle], None] = lambda _: None
        """Called with a stream that has said everything."""
        self._engine, self._front_end, self._options, self._metrics = engine, front_end, options, metrics
        self._device = ThreadPoolExecutor(1, "device", initializer=torch.set_num_threads, initargs=(options.n_threads,))
        self._tracer = tracer if tracer is not None else NoSpans()
        self._work = asyncio.Event()
        self._running = False
        self._busy_since: float | None = None
        self._heard_at_s = time.monotonic()

    def add(self, stream: SessionHandle) -> None:
        """Serve a stream until it has said everything."""
        self.streams[stream.id] = stream

    def wake(self) -> None:
        """There is something to do."""
        self._work.set()

    @property
    def is_alive(self) -> bool:
        """Whether the loop runs and the device answers."""
        hanging = self._busy_since is not None and time.monotonic() - self._busy_since > LIVENESS_S
        return self._running and not hanging

    @property
    def n_speaking(self) -> int:
        """Sessions with an open turn."""
        return sum(stream.session.is_speaking for stream in self.streams.values())

    @property
    def n_due(self) -> int:
        """Sessions that wait for a step."""
        return len(self._due(self.interval_s))

    @property
    def interval_s(self) -> float:
        """Present interval between partial steps of one session."""
        return self.meter.interval_s(self.n_speaking)

    @property
    def worst_lag_s(self) -> float:
        """Sound of the session furthest behind that no step has seen, seconds."""
        return max((s.session.lag_s + s.backlog_s for s in self.streams.values()), default=0.0)

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
        await self._hear(self._audible())
        due = self._next_batch()
        if due:
            await self._step(due)
        over = [stream for stream in self.streams.values() if stream.is_over]
        for stream in over:
            del self.streams[stream.id]
            self.on_closed(stream)
        if over:
            await self._on_device(lambda: self._forget(over))
        return bool(due) or bool(self._audible())

    def _forget(self, streams: Sequence[SessionHandle]) -> None:
        for stream in streams:
            self._engine.forget(stream.id)

    def _audible(self) -> list[SessionHandle]:
        return [s for s in self.streams.values() if s.has_input and not s.session.is_full]

    async def _hear(self, streams: Sequence[SessionHandle]) -> None:
        if not streams:
            return
        now_s = time.monotonic()
        most = int(most_heard_s(now_s - self._heard_at_s) * SAMPLE_RATE)
        self._heard_at_s = now_s
        samples = [stream.take_samples(most) for stream in streams]
        started = time.perf_counter()
        heard = await self._on_device(lambda: self._listen(streams, samples))
        self._metrics.listen.observe((time.perf_counter() - started) * 1e3)
        for stream, sound, block in zip(streams, heard, samples, strict=True):
            self._metrics.audio.inc(block.shape[0] / SAMPLE_RATE)
            self._say(stream, stream.session.push_frames(sound.frames, sound.probabilities))
            for command in stream.take_commands():
                self._say(stream, command.apply(stream.session))

    def _listen(self, streams: Sequence[SessionHandle], samples: Sequence[Tensor]) -> list[Features]:
        return self._front_end.extract([stream.state for stream in streams], samples)

    def _due(self, interval_s: float) -> list[SessionHandle]:
        """Sessions that want a step after so much new sound, in the order in which they get it."""
        due = [s for s in self.streams.values() if s.session.is_due(interval_s)]
        return sorted(due, key=lambda s: (not s.session.wants_final, -s.session.lag_s))

    def _next_batch(self) -> list[SessionHandle]:
        """Who is due now, and where anybody is, who soon will be."""
        interval_s = self.interval_s
        due = self._due(interval_s)
        joined = dict.fromkeys([*due, *self._due(EARLY * interval_s)]) if due else ()
        return list(joined)[: self.meter.batch]

    async def _step(self, streams: Sequence[SessionHandle]) -> None:
        steps = [stream.session.next_step() for stream in streams]
        started = time.perf_counter()
        with self._tracer.step(len(steps), sum(step.request.final for step in steps)):
            results = await self._on_device(lambda: self._results(steps))
        elapsed_s = time.perf_counter() - started
        self.n_steps += 1
        self.meter.observe(elapsed_s, len(streams))
        self._metrics.step.observe(elapsed_s * 1e3)
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

    def _failed(self, stream: SessionHandle, error: EngineError) -> None:
        self._metrics.failures.inc()
        stream.n_failures += 1
        stream.counters.n_failed_steps += 1
        log.error("step_failed", session=stream.id, failures=stream.n_failures, error=str(error))
        stream.session.cancel_step()
        if stream.n_failures >= MAX_FAILURES:
            stream.fail(EngineError(f"{MAX_FAILURES} steps failed in a row: the session cannot go on"))

    async def _on_device(self, call: Callable[[], T]) -> T:
        self._busy_since = time.monotonic()
        try:
            return await asyncio.get_running_loop().run_in_executor(self._device, call)
        finally:
            self._busy_since = None

    def _say(self, stream: SessionHandle, events: list[Event]) -> None:
        for word in stream.session.take_newly_stable():
            commit_s = max(0.0, stream.received_s - word.said_s[1])
            self._metrics.words.inc()
            self._metrics.commit.observe(commit_s)
            stream.counters.add_word(commit_s)
        if stream.counters.watch(events, stream.session.received_s, speaking=stream.session.is_speaking):
            log.warning("session_stalled", session=stream.id, at_s=round(stream.session.received_s, 1))
        stream.say(events)
