"""
The sessions of one decoder: takes their audio, asks for their steps, hands out their events.

The loop: take the audio that came in for every session, step the sessions that are due, hand out the events, repeat.
Where the decoder is an engine of this process, front end and engine share a thread, and the loop waits for each step.
Where it is another process, steps run beside the loop, and audio is taken meanwhile. The event loop receives in both
cases, and that input forms the next batch. Ends of turns go before partial captions; within each kind the session goes
first that has waited longest for stable words. A session has at most one step in flight.

A GPU has one worker. A CPU has one worker of one thread for each core (docs/experiments.md has the measurements).
"""

from __future__ import annotations

import asyncio
import functools
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import structlog
from torch import Tensor

from streamer.audio.frontend import Features, FrontEnd
from streamer.audio.pcm import SAMPLE_RATE
from streamer.errors import DeviceError, DeviceLostError
from streamer.protocol.events import TurnRevised
from streamer.scheduling.calibration import Clocks, Timing
from streamer.scheduling.decoder import Decoder, Stepped
from streamer.scheduling.load import LoadMeter
from streamer.scheduling.session_calls import SessionCalls
from streamer.scheduling.session_handle import SessionHandle
from streamer.session.audio_window import MAX_AUDIO_S
from streamer.session.second_pass import Revision
from streamer.session.session import Session
from streamer.step import StepRequest
from streamer.telemetry.metrics import ServiceMetrics
from streamer.telemetry.tracing import NoSpans, StepTracer

LISTENING_PAUSES_S = (0.0, 0.5, 2.0)
"""Pause before each further attempt to compute audio features on a device that fails, seconds; as for its engine."""
CATCH_UP = 1.2
"""Audio taken of a late session, as a multiple of the time that has passed."""
EARLY = 0.5
"""Part of the step interval after which a session may join a step that another session is due for. Sessions that step
together are due together again, and a row of a full batch costs half as much as a row alone."""
LATE_S = 1.2
"""Age of a session's first word that is not stable from which on its next step comes sooner. Words that two steps agree
on are stable by then; the others make the tail of the delay, and take the time of those that are early."""
TICK_OF_SESSION_S = 0.003
"""Time between two rounds for each session, where steps run beside them, seconds."""
MOST_TICK_S = 0.1
"""Longest time between two such rounds, seconds: a message of most clients holds as much audio."""
STEP_SHARE = 0.8
"""Part of a round that its step takes at least in the model of the cost: where audio, events and a busy event loop take
more than the rest, a step counts as dear as the delay that it has with them."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerOptions:
    """Pace of a worker."""

    tick_s: float = 0.02
    """Shortest time between two rounds, seconds: chunks that arrive close together are taken together."""
    min_audio_s: float = 1.0
    """Audio of one session that a round may always take, seconds: so audio sent faster than real time is consumed."""

    def tick_beside_s(self, n_sessions: int) -> float:
        """
        Time between two rounds that take audio where steps run beside them, seconds: longer with more sessions.

        There is no step then that makes a round last, and its front end costs as much for a little audio as for more:
        at 32 sessions the gateway takes 10.9 ms for a second of audio with ticks of 20 ms, 8.5 ms with 100 ms.
        """
        return min(max(self.tick_s, n_sessions * TICK_OF_SESSION_S), MOST_TICK_S)

    def most_audio_s(self, passed_s: float) -> float:
        """
        Audio to take of each session in a round, given the time since the last round, seconds.

        A little more than has passed, so that slow steps leave no session behind; between `min_audio_s` and
        `MAX_AUDIO_S`, the most that one step can see.
        """
        return min(max(passed_s * CATCH_UP, self.min_audio_s), MAX_AUDIO_S)


class Worker:
    """
    Runs the sessions of one decoder.

    Args:
        decoder: Runs their steps.
        front_end: Computes mel frames and voice probabilities; it has no state, so workers may share it.
        options: See `WorkerOptions`.
        metrics: Metrics of the service.
        tracer: Makes a span of each step.
    """

    def __init__(
        self,
        decoder: Decoder,
        front_end: FrontEnd,
        options: WorkerOptions,
        metrics: ServiceMetrics,
        tracer: StepTracer | None = None,
    ) -> None:
        self.decoder = decoder
        self.streams: dict[str, SessionHandle] = {}
        self.n_steps = 0
        self.on_closed: Callable[[SessionHandle], None] = lambda _: None
        """Called with a session that is over."""
        self.on_revision: Callable[[SessionHandle, Revision], None] = self._keep_text
        """Called with a turn that asks for its second pass; `settle` answers."""
        self._front_end, self._options, self._metrics = front_end, options, metrics
        self._calls = SessionCalls(metrics, lambda stream, revision: self.on_revision(stream, revision))
        self._tracer = tracer if tracer is not None else NoSpans()
        self._work = asyncio.Event()
        self._running = False
        self._timer: asyncio.TimerHandle | None = None
        self._took_at_s = time.monotonic()
        self._next_tick_s = -math.inf
        self._tick: asyncio.TimerHandle | None = None
        self._steps: set[asyncio.Task[None]] = set()
        """Steps that run beside the loop."""
        self._stepping: set[str] = set()
        """Sessions with a step under way."""

    def add(self, stream: SessionHandle) -> None:
        """Serve a session until it is over."""
        self.streams[stream.id] = stream

    def wake(self) -> None:
        """Tell the loop that there is input; a loop that will look at the next tick is not woken for it."""
        if self._tick is None:
            self._work.set()

    @property
    def meter(self) -> LoadMeter:
        """Cost of steps where they are run."""
        return self.decoder.load

    @property
    def is_alive(self) -> bool:
        """Whether the loop runs, and steps and audio features are answered."""
        return self._running and self.decoder.is_alive and not self.decoder.thread.is_hanging

    @property
    def is_idle(self) -> bool:
        """Whether the loop runs, and no session speaks or has audio that waits, here or elsewhere on its engine."""
        is_idle_here = not any(s.session.is_speaking or s.has_input for s in self.streams.values())
        return self._running and is_idle_here and not self.decoder.n_speaking_elsewhere

    @property
    def n_speaking(self) -> int:
        """Sessions with an open turn."""
        return sum(stream.session.is_speaking for stream in self.streams.values())

    @property
    def n_speaking_total(self) -> int:
        """Sessions with an open turn that the engine serves, those of other processes among them."""
        return self.n_speaking + self.decoder.n_speaking_elsewhere

    @property
    def n_due(self) -> int:
        """Sessions that wait for a step."""
        return len(self._due(self.interval_s))

    @property
    def interval_s(self) -> float:
        """Present interval between partial steps of one session, seconds."""
        return self.meter.interval_s(self.n_speaking_total)

    @property
    def worst_lag_s(self) -> float:
        """Audio received and not yet seen by a step, of the live session furthest behind, seconds."""
        live = (stream for stream in self.streams.values() if not stream.session.revises_all)
        return max((stream.session.lag_s + stream.backlog_s for stream in live), default=0.0)

    async def run(self) -> None:
        """Serve until cancelled. Any error but one of a session or of its step propagates and ends the daemon."""
        self._running = True
        try:
            while True:
                await self._work.wait()
                self._work.clear()
                await (self._rounds_beside() if self.decoder.is_beside else self._rounds())
        finally:
            self._running = False
            for timer in filter(None, (self._timer, self._tick)):
                timer.cancel()
            for step in self._steps:
                step.cancel()
            self.decoder.close()

    async def _rounds(self) -> None:
        """Rounds until there is no more to do, a tick at least."""
        started_s = time.monotonic()
        while await self._round():
            pass
        await asyncio.sleep(max(0.0, started_s + self._options.tick_s - time.monotonic()))

    async def _round(self) -> bool:
        """Take audio, step, hand out events; whether there is more to do at once."""
        started = time.perf_counter()
        await self._take_audio(self._with_input())
        due = self._next_batch()
        if due:
            n_speaking, stepped = self.n_speaking, await self._step(due)
            round_s = time.perf_counter() - started
            if stepped:
                self.meter.observe(max(stepped.seconds, STEP_SHARE * round_s), stepped.n_rows, n_speaking)
        else:
            self._wake_for_finals()
        await self._release()
        return bool(due) or bool(self._with_input())

    async def _rounds_beside(self) -> None:
        """A round where a tick has passed since the last one, or a step is done; otherwise wake when it has passed."""
        done = [step for step in self._steps if step.done()]
        for step in done:
            self._steps.discard(step)
            step.result()  # raises what ends the daemon
        is_tick = time.monotonic() >= self._next_tick_s
        if is_tick:
            self._next_tick_s = time.monotonic() + self._options.tick_beside_s(len(self.streams))
        if is_tick or done:
            await self._round_beside(takes_audio=is_tick)
        # a wake-up between two ticks, as of a session that gives way, is answered at the next tick
        if (not is_tick or self._with_input()) and self._tick is None:
            wait_s = max(0.0, self._next_tick_s - time.monotonic())
            self._tick = asyncio.get_running_loop().call_later(wait_s, self._on_tick)

    def _on_tick(self) -> None:
        self._tick = None
        self._work.set()

    async def _round_beside(self, *, takes_audio: bool) -> None:
        """Take audio, and begin steps while the decoder has place for them."""
        if takes_audio:
            await self._take_audio(self._with_input())
        while self.decoder.has_place and (due := self._next_batch()):
            step = asyncio.create_task(self._step_beside(due))
            self._steps.add(step)
            step.add_done_callback(lambda _: self._work.set())
            await asyncio.sleep(0)  # the step has begun, so its place and its sessions are taken
        self._wake_for_finals()
        await self._release()
        self.decoder.tell_speaking(self.n_speaking)

    async def _step_beside(self, due: Sequence[SessionHandle]) -> None:
        n_speaking, stepped = self.n_speaking_total, await self._step(due)
        if stepped and stepped.n_rows:
            self.meter.observe(stepped.seconds, stepped.n_rows, n_speaking)
        await self._release()

    async def _release(self) -> None:
        """Let go of the sessions that are over; the decoder forgets one with a step under way when it is done."""
        over = [stream for stream in self.streams.values() if stream.is_over]
        for stream in over:
            del self.streams[stream.id]
            self.on_closed(stream)
        if forgotten := [stream.id for stream in over if stream.id not in self._stepping]:
            await self.forget(forgotten)

    async def forget(self, sessions: Sequence[str]) -> None:
        """Release what the decoder has cached for these sessions; nothing once the loop has ended."""
        if self._running:
            await self.decoder.forget(sessions)

    async def time_step(self, batch: Sequence[StepRequest], clocks: Clocks) -> Timing:
        """
        Run a step of no session, and measure it where it is run.

        Args:
            batch: Its requests.
            clocks: What measures it.

        Raises:
            EngineError: The step failed.
            OverloadError: There is no time for it now.
            DeviceLostError: No step can be run any more.
        """
        return await self.decoder.time_step(batch, clocks)

    def _with_input(self) -> list[SessionHandle]:
        able = [s for s in self.streams.values() if s.has_input and not s.has_failed and not s.session.is_full]
        return [s for s in able if not self._is_late(s)]

    def _is_late(self, stream: SessionHandle) -> bool:
        """Whether a step under way leaves so much audio unseen that more of it must wait for the end of the step."""
        return stream.id in self._stepping and stream.session.lag_s >= self._options.min_audio_s

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
                self._calls.say(stream, functools.partial(command.apply, stream.session))

    async def _push_audio(self, streams: Sequence[SessionHandle], blocks: Mapping[str, Tensor]) -> None:
        """Give sessions the frames of their samples, each (n,) at 16 kHz."""
        if not streams:
            return
        samples = [blocks[stream.id] for stream in streams]
        started = time.perf_counter()
        features = await self._listen(streams, samples, LISTENING_PAUSES_S)
        self._metrics.listen.observe((time.perf_counter() - started) * 1e3)
        for stream, new, block in zip(streams, features, samples, strict=True):
            self._metrics.audio.inc(block.shape[0] / SAMPLE_RATE)
            self._calls.say(stream, functools.partial(stream.session.push_frames, new.frames, new.probabilities))

    async def _listen(
        self, streams: Sequence[SessionHandle], samples: Sequence[Tensor], pauses_s: Sequence[float]
    ) -> list[Features]:
        """The features of new samples; a device that fails is asked again after each of these pauses."""
        states = [stream.state for stream in streams]
        try:
            return await self.decoder.thread.run(lambda: self._front_end.extract(states, samples))
        except DeviceError as error:
            if not pauses_s:
                raise DeviceLostError(f"the device does not recover: {error}") from error
            log.exception("listening_failed", retry_s=pauses_s[0])
        await asyncio.sleep(pauses_s[0])
        return await self._listen(streams, samples, pauses_s[1:])

    def _due(self, interval_s: float) -> list[SessionHandle]:
        """Sessions due for a step at this interval, ends of turns first, then those that have waited longest."""
        able = [s for s in self.streams.values() if not s.has_failed]
        sooner_s = min(interval_s, self.meter.hurried_interval_s(self.n_speaking_total))
        due = [s for s in able if self._calls.guard(s, functools.partial(_is_due, s.session, interval_s, sooner_s))]
        due = [s for s in due if self._early_final_s(s) <= 0]
        return sorted(due, key=lambda s: (not s.session.wants_final, -s.session.waiting_s))

    def _early_final_s(self, stream: SessionHandle) -> float:
        """
        Seconds until a session may end another turn, 0 or less: now.

        Ends of turns go first and ask for a step at once, so a client that flushes all the time would have more than
        its share of the steps. An interval of audio or of time must lie between two; flushes that wait are answered
        together.
        """
        session = stream.session
        if not session.wants_final or session.takes_no_more:
            return 0.0
        interval_s = self.interval_s
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

    async def _step(self, streams: Sequence[SessionHandle]) -> Stepped | None:
        """Step these sessions and hand out their events; None if all have failed."""
        asked = [(stream, self._calls.guard(stream, stream.session.next_step)) for stream in streams]
        batch = [(stream, step) for stream, step in asked if step is not None]
        if not batch:
            return None
        requests = [step.request for _, step in batch]
        names = {request.session for request in requests}
        self._stepping |= names
        try:
            with self._tracer.step(len(requests), sum(request.final for request in requests)):
                stepped = await self.decoder.step(requests)
        finally:
            self._stepping -= names
        self._count_step(stepped)
        for (stream, step), answer in zip(batch, stepped.answers, strict=True):
            self._calls.apply(stream, step, answer)
        if gone := [name for name in names if name not in self.streams]:
            await self.forget(gone)
        return stepped

    def _count_step(self, stepped: Stepped) -> None:
        self.n_steps += 1
        self._metrics.step.observe(stepped.seconds * 1e3)
        self._metrics.batch.observe(stepped.n_rows)

    def settle(self, stream: SessionHandle, turn: int, event: TurnRevised | None) -> None:
        """
        Hand out the result of a second pass; on the event loop.

        Args:
            stream: The session, which may be over.
            turn: Number of the turn.
            event: See `Session.revised`.
        """
        self._calls.say(stream, functools.partial(stream.session.revised, turn, event))
        self.wake()

    def _keep_text(self, stream: SessionHandle, revision: Revision) -> None:
        """Answer that a turn has no second pass: nobody makes one."""
        self.settle(stream, revision.turn.turn, None)


def _is_due(session: Session, interval_s: float, sooner_s: float) -> bool:
    """Whether a session is due at this interval, or sooner since a word of it has waited too long."""
    return session.is_due(sooner_s) and (session.is_due(interval_s) or session.waiting_s >= LATE_S)
