"""
One device thread and the sessions that it serves.

The loop: take the audio that came in for every session, step the sessions that are due, hand out the events, repeat.
Front end and engine run on the worker's own thread; the event loop receives meanwhile, and that input forms the next
batch. Ends of turns go before partial captions; within each kind the session with the most unseen audio goes first. A
session has at most one step in flight.

A GPU has one worker. A CPU has one worker of one thread for each core (docs/experiments.md has the measurements).
"""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import structlog
import torch
from torch import Tensor

from streamer.audio.frontend import Features, FrontEnd
from streamer.audio.pcm import SAMPLE_RATE
from streamer.errors import EngineError, StreamerError
from streamer.protocol.events import Event
from streamer.scheduling.calibration import Clocks, Timing, time_step
from streamer.scheduling.load import LoadMeter
from streamer.scheduling.session_handle import SessionHandle
from streamer.session.audio_window import MAX_AUDIO_S
from streamer.session.session import Step
from streamer.step import Engine, StepRequest, StepResult
from streamer.telemetry.metrics import ServiceMetrics
from streamer.telemetry.tracing import NoSpans, StepTracer

MAX_FAILURES = 3
"""Steps of one session in a row that fail before the session ends with an error."""
CATCH_UP = 1.2
"""Audio taken of a late session, as a multiple of the time that has passed."""
EARLY = 0.5
"""Part of the step interval after which a session may join a step that another session is due for. Sessions that step
together are due together again, and a row of a full batch costs half as much as a row alone."""
STEP_SHARE = 0.8
"""Part of a round that its step takes at least in the model of the cost: where audio, events and a busy event loop take
more than the rest, a step counts as dear as the delay that it has with them."""

T = TypeVar("T")
log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerOptions:
    """Pace and threads of a worker."""

    tick_s: float = 0.02
    """Shortest time between two rounds, seconds: chunks that arrive close together are taken together."""
    n_threads: int = 1
    """CPU threads of matrix products on the device thread."""
    min_audio_s: float = 1.0
    """Audio of one session that a round may always take, seconds: so audio sent faster than real time is consumed."""
    liveness_s: float = 30.0
    """Time that the device may take for one call before it counts as hanging, seconds."""

    def most_audio_s(self, passed_s: float) -> float:
        """
        Audio to take of each session in a round, given the time since the last round, seconds.

        A little more than has passed, so that slow steps leave no session behind; between `min_audio_s` and
        `MAX_AUDIO_S`, the most that one step can see.
        """
        return min(max(passed_s * CATCH_UP, self.min_audio_s), MAX_AUDIO_S)


class Worker:
    """
    Runs the sessions of one device thread.

    Args:
        engine: Runs steps, on this worker's thread only.
        front_end: Computes mel frames and voice probabilities; it has no state, so workers may share it.
        meter: Learns the cost of steps; the workers of a machine share it.
        options: See `WorkerOptions`.
        metrics: Metrics of the service.
        tracer: Makes a span of each step.
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
        """Called with a session that is over."""
        self._engine, self._front_end, self._options, self._metrics = engine, front_end, options, metrics
        self._device = ThreadPoolExecutor(1, "device", initializer=torch.set_num_threads, initargs=(options.n_threads,))
        self._tracer = tracer if tracer is not None else NoSpans()
        self._device_turn = asyncio.Lock()
        self._work = asyncio.Event()
        self._running = False
        self._timer: asyncio.TimerHandle | None = None
        self._busy_since: float | None = None
        self._took_at_s = time.monotonic()

    def add(self, stream: SessionHandle) -> None:
        """Serve a session until it is over."""
        self.streams[stream.id] = stream

    def wake(self) -> None:
        """Tell the loop that there is input."""
        self._work.set()

    @property
    def is_alive(self) -> bool:
        """Whether the loop runs and the device answers."""
        hanging = self._busy_since is not None and time.monotonic() - self._busy_since > self._options.liveness_s
        return self._running and not hanging

    @property
    def is_idle(self) -> bool:
        """Whether the loop runs, and no session speaks or has audio that waits."""
        return self._running and not any(s.session.is_speaking or s.has_input for s in self.streams.values())

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
        """Present interval between partial steps of one session, seconds."""
        return self.meter.interval_s(self.n_speaking)

    @property
    def worst_lag_s(self) -> float:
        """Audio received and not yet seen by a step, of the session furthest behind, seconds."""
        return max((s.session.lag_s + s.backlog_s for s in self.streams.values()), default=0.0)

    async def run(self) -> None:
        """Serve until cancelled. Any error but one of a session or of its step propagates and ends the daemon."""
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
            if self._timer:
                self._timer.cancel()
            self._device.shutdown(wait=False, cancel_futures=True)

    async def _round(self) -> bool:
        """Take audio, step, hand out events; whether there is more to do at once."""
        started = time.perf_counter()
        await self._take_audio(self._with_input())
        due = self._next_batch()
        if due:
            n_speaking, n_rows, step_s = self.n_speaking, *await self._step(due)
            round_s = time.perf_counter() - started
            if n_rows:
                self.meter.observe(max(step_s, STEP_SHARE * round_s), n_rows, n_speaking)
        else:
            self._wake_for_finals()
        over = [stream for stream in self.streams.values() if stream.is_over]
        for stream in over:
            del self.streams[stream.id]
            self.on_closed(stream)
        if over:
            await self.forget([stream.id for stream in over])
        return bool(due) or bool(self._with_input())

    async def forget(self, sessions: Sequence[str]) -> None:
        """Release what the engine has cached for these sessions; nothing once the loop has ended."""
        if self._running:
            await self._on_device(lambda: self._forget(sessions))

    def _forget(self, sessions: Sequence[str]) -> None:
        for session in sessions:
            self._engine.forget(session)

    async def time_step(self, batch: Sequence[StepRequest], clocks: Clocks) -> Timing:
        """
        Run a step of no session on the device thread, and measure it there.

        Args:
            batch: Its requests.
            clocks: What measures it.

        Raises:
            EngineError: The step failed.
        """
        return await self._on_device(lambda: time_step(self._engine, batch, clocks))

    def _with_input(self) -> list[SessionHandle]:
        return [s for s in self.streams.values() if s.has_input and not s.has_failed and not s.session.is_full]

    async def _take_audio(self, streams: Sequence[SessionHandle]) -> None:
        now_s = time.monotonic()
        most = int(self._options.most_audio_s(now_s - self._took_at_s) * SAMPLE_RATE)
        if streams:
            self._took_at_s = now_s
        blocks = {stream.id: stream.take_samples(most) for stream in streams}
        # commands alone, as many as a client may send, do not occupy the device
        await self._push_audio([stream for stream in streams if blocks[stream.id].shape[0]], blocks)
        for stream in streams:
            for command in stream.take_commands():
                self._say(stream, functools.partial(command.apply, stream.session))

    async def _push_audio(self, streams: Sequence[SessionHandle], blocks: Mapping[str, Tensor]) -> None:
        """Give sessions the frames of their samples, each (n,) at 16 kHz."""
        if not streams:
            return
        samples = [blocks[stream.id] for stream in streams]
        started = time.perf_counter()
        features = await self._on_device(lambda: self._extract(streams, samples))
        self._metrics.listen.observe((time.perf_counter() - started) * 1e3)
        for stream, new, block in zip(streams, features, samples, strict=True):
            self._metrics.audio.inc(block.shape[0] / SAMPLE_RATE)
            self._say(stream, functools.partial(stream.session.push_frames, new.frames, new.probabilities))

    def _extract(self, streams: Sequence[SessionHandle], samples: Sequence[Tensor]) -> list[Features]:
        return self._front_end.extract([stream.state for stream in streams], samples)

    def _due(self, interval_s: float) -> list[SessionHandle]:
        """Sessions due for a step at this interval, ends of turns first, then by unseen audio."""
        sound = [s for s in self.streams.values() if not s.has_failed]
        due = [s for s in sound if self._guard(s, functools.partial(s.session.is_due, interval_s))]
        due = [s for s in due if self._early_final_s(s) <= 0]
        return sorted(due, key=lambda s: (not s.session.wants_final, -s.session.lag_s))

    def _early_final_s(self, stream: SessionHandle) -> float:
        """
        Seconds until a session may end another turn, 0 or less: now.

        Ends of turns go first and ask for a step at once, so a client that flushes all the time would have more than
        its share of the steps. An interval of audio or of time must lie between two; flushes that wait are answered
        together.
        """
        interval_s, session = self.interval_s, stream.session
        if not session.wants_final or session.takes_no_more:
            return 0.0
        if session.received_s - stream.final_received_s >= interval_s:
            return 0.0
        return stream.final_at_s + interval_s - time.monotonic()

    def _wake_for_finals(self) -> None:
        """Wake the loop when the first turn may end that has to wait."""
        waits = [wait_s for s in self.streams.values() if (wait_s := self._early_final_s(s)) > 0]
        if self._timer:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(min(waits), self.wake) if waits else None

    def _next_batch(self) -> list[SessionHandle]:
        """Sessions due now; if there is any, also those due within half an interval."""
        interval_s = self.interval_s
        due = self._due(interval_s)
        joined = dict.fromkeys([*due, *self._due(EARLY * interval_s)]) if due else ()
        return list(joined)[: self.meter.batch]

    async def _step(self, streams: Sequence[SessionHandle]) -> tuple[int, float]:
        """Step these sessions and hand out their events; rows of the step, 0 if all have failed, and its seconds."""
        asked = [(stream, self._guard(stream, stream.session.next_step)) for stream in streams]
        batch = [(stream, step) for stream, step in asked if step is not None]
        if not batch:
            return 0, 0.0
        steps = [step for _, step in batch]
        started = time.perf_counter()
        with self._tracer.step(len(steps), sum(step.request.final for step in steps)):
            results = await self._on_device(lambda: self._results(steps))
        elapsed_s = time.perf_counter() - started
        self._count_step(elapsed_s, len(steps))
        for (stream, step), result in zip(batch, results, strict=True):
            if step.request.final:
                stream.final_at_s, stream.final_received_s = time.monotonic(), stream.session.received_s
            if isinstance(result, EngineError):
                self._failed(stream, result)
            else:
                stream.n_failures = 0
                self._say(stream, functools.partial(stream.session.apply, step, result))
        return len(steps), elapsed_s

    def _count_step(self, elapsed_s: float, n_rows: int) -> None:
        self.n_steps += 1
        self._metrics.step.observe(elapsed_s * 1e3)
        self._metrics.batch.observe(n_rows)

    def _results(self, steps: Sequence[Step]) -> Sequence[StepResult | EngineError]:
        """Run one step on the device thread; if it fails, each row alone, so that a bad row affects no other."""
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
        self._guard(stream, stream.session.cancel_step)
        if stream.n_failures >= MAX_FAILURES:
            stream.fail(EngineError(f"{MAX_FAILURES} steps failed in a row: the session cannot go on"))

    async def _on_device(self, call: Callable[[], T]) -> T:
        async with self._device_turn:
            self._busy_since = time.monotonic()
            try:
                return await asyncio.get_running_loop().run_in_executor(self._device, call)
            finally:
                self._busy_since = None

    def _guard(self, stream: SessionHandle, call: Callable[[], T]) -> T | None:
        """Call into one session; an error of the session ends it alone, and gives None. Others go on."""
        try:
            return call()
        except StreamerError as error:
            stream.fail(error)
        except Exception:
            log.exception("session_fault", session=stream.id)
            stream.fail(EngineError("a fault of the daemon; its log says more"))
        return None

    def _say(self, stream: SessionHandle, call: Callable[[], list[Event]]) -> None:
        """Hand out the events of a call into a session, and count them."""
        if not stream.has_failed:
            self._guard(stream, lambda: self._hand_out(stream, call()))

    def _hand_out(self, stream: SessionHandle, events: list[Event]) -> None:
        for word in stream.session.take_newly_stable():
            commit_s = max(0.0, stream.received_s - word.said_s[1])
            self._metrics.words.inc()
            self._metrics.commit.observe(commit_s)
            stream.counters.add_word(commit_s)
        if stream.counters.watch(events, stream.session.received_s, speaking=stream.session.is_speaking):
            log.warning("session_stalled", session=stream.id, at_s=round(stream.session.received_s, 1))
        stream.say(events)
