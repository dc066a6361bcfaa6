"""
The decoder of a worker whose engine is another process: sends steps there, and elsewhere where that engine is away.

Each worker has an engine of its own, where its windows are cached. While that engine is away its steps go to another
one, which needs the whole windows once; when it is back and has been well for a while, they go home again. Where no
engine answers, steps wait. So a lost engine costs time, never a word.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Collection, Hashable, Sequence
from dataclasses import dataclass
from typing import Protocol

import structlog

from streamer.errors import DeviceLostError, EngineError, OverloadError
from streamer.remote import wire
from streamer.remote.link import EngineAwayError, EngineLink, EngineLostError
from streamer.scheduling.calibration import Clocks, Timing
from streamer.scheduling.decoder import Answer, Stepped
from streamer.scheduling.device_thread import DeviceThread
from streamer.scheduling.load import LoadMeter
from streamer.step import StepRequest
from streamer.telemetry.metrics import EngineMetrics, ServiceMetrics
from streamer.telemetry.statistics import EngineStatistics

PATIENCE_S = 2.0
"""Time after which a call is given up if another engine can take it, seconds; more for steps that cost much."""
SLOW = 10.0
"""The same as a multiple of what the step costs."""
MOST_WAITS = 5
"""Times that this passes before a call is sent again where there is no other engine."""
MOST_LOSSES = 3
"""Engine processes that may be lost with a step of one session, the last of them with that step alone."""
RETRY_S = 0.02
"""Pause before a step is asked for again, seconds."""

log = structlog.get_logger()


class EnginePlace(Protocol):
    """One engine of a pool: its connection, while it has one."""

    @property
    def name(self) -> str:
        """Of the engine."""

    @property
    def link(self) -> EngineLink | None:
        """The present connection; None while the process is being replaced."""

    @property
    def is_lost(self) -> bool:
        """Whether it does not answer, or its process is being replaced."""

    @property
    def is_wanted(self) -> bool:
        """Whether it is missed while it is lost: a cluster has fewer engines while few speak."""

    @property
    def pid(self) -> int:
        """Of its process; 0 while it has none."""

    @property
    def n_restarts(self) -> int:
        """Times that its process was started again."""


class EnginePool(Protocol):
    """All engines of a gateway."""

    @property
    def places(self) -> Sequence[EnginePlace]:
        """A place for each engine."""

    @property
    def has_given_up(self) -> bool:
        """Whether no engine will come back by itself."""

    async def changed(self) -> None:
        """Wait until an engine begins or stops to answer, or is given up."""


@dataclass(frozen=True, slots=True)
class _Held:
    """The frames of a session's window that an engine process holds, as its answers say."""

    link: EngineLink
    window: Hashable | None
    n_frames: int


class RemoteDecoder:
    """
    Runs the steps of one worker on the engines of a pool.

    Args:
        pool: The engines.
        home: Index of the worker's own engine.
        fingerprint: Of the weights that requests are made for.
        meter: Learns the cost of steps, as the engines tell it; the decoders of a machine share it.
        n_places: Calls under way at most.
        patience_s: Time after which a call is given up if another engine can take it, at least, seconds.
        metrics: Of the service.
        engine_metrics: Takes the times that engines tell.
        clock: The monotonic clock of deadlines, seconds.
    """

    def __init__(
        self,
        pool: EnginePool,
        home: int,
        *,
        fingerprint: str,
        meter: LoadMeter,
        n_places: int,
        metrics: ServiceMetrics,
        engine_metrics: EngineMetrics,
        patience_s: float = PATIENCE_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.load, self.thread = meter, DeviceThread()
        self._pool, self._home = pool, pool.places[home]
        self._at = self._home
        self._fingerprint, self._n_places, self._clock = fingerprint, n_places, clock
        self._metrics, self._engine_metrics, self._patience_s = metrics, engine_metrics, patience_s
        self._n_under_way = 0
        self._held: dict[str, _Held] = {}
        self._losses = Counter[str]()
        """Engines that were lost while they ran a step of a session, since its last answer."""

    # --- as `Decoder`

    @property
    def is_beside(self) -> bool:
        """Always: audio is taken while a step is away."""
        return True

    @property
    def has_place(self) -> bool:
        """Whether fewer calls are under way than may be."""
        return self._n_under_way < self._n_places

    @property
    def is_alive(self) -> bool:
        """Whether engines answer, or will once their process has been replaced."""
        return not self._pool.has_given_up

    @property
    def is_ready(self) -> bool:
        """Whether some engine answers now."""
        return any(place.link and place.link.is_answering for place in self._pool.places)

    @property
    def capacity(self) -> int:
        """As measured; 0 while the worker's own engine is away: its sessions burden the others then."""
        return 0 if self._home.is_lost else self.load.capacity

    @property
    def n_speaking_elsewhere(self) -> int:
        """As the worker's own engine told with its last answer to a ping."""
        return self._home.link.vitals.n_speaking if self._home.link else 0

    def tell_speaking(self, n_speaking: int) -> None:
        """Tell the engine with the next ping."""
        if self._home.link:
            self._home.link.n_speaking = n_speaking

    async def step(self, batch: Sequence[StepRequest]) -> Stepped:
        """
        Run one step, on another engine if need be, as often as need be.

        Raises:
            DeviceLostError: No engine will come back.
        """
        self._n_under_way += 1
        try:
            return await self._step(batch)
        finally:
            self._n_under_way -= 1

    async def time_step(self, batch: Sequence[StepRequest], clocks: Clocks) -> Timing:
        """
        Run a step of no session, and measure it in the engine's process.

        Args:
            batch: Its requests.
            clocks: Unused: the engine has its own.

        Raises:
            EngineError: The step failed, or the engine was lost with it.
            OverloadError: The engine is away, or has no time.
            DeviceLostError: No engine will come back.
        """
        link = await self._choose()
        try:
            reply = await self._ask(link, [wire.row_of(request, 0) for request in batch], is_timed=True)
        except EngineLostError as error:
            raise EngineError(str(error)) from error
        except EngineAwayError as error:
            raise OverloadError(str(error), retry_after_s=RETRY_S) from error
        if reply.rows:
            raise EngineError(reply.rows[0].error)
        return Timing(work_s=reply.work_s, wall_s=reply.seconds)

    async def forget(self, sessions: Sequence[str]) -> None:
        """Release what is cached for sessions that are over, wherever it may be."""
        for session in sessions:
            self._held.pop(session, None)
            self._losses.pop(session, None)
        for place in self._pool.places:
            if place.link:
                place.link.forget(tuple(sessions))

    def statistics(self) -> EngineStatistics:
        """Of the worker's own engine."""
        link = self._home.link
        return EngineStatistics(
            name=self._home.name,
            pid=self._home.pid,
            n_rows=link.n_rows if link else 0,
            row_cost_s=self.load.row_cost_s,
            is_alive=not self._home.is_lost,
            n_restarts=self._home.n_restarts,
            is_wanted=self._home.is_wanted,
            resident_bytes=link.vitals.resident_bytes if link else 0,
        )

    def close(self) -> None:
        """End the thread of the audio features."""
        self.thread.close()

    # --- steps

    async def _step(self, batch: Sequence[StepRequest]) -> Stepped:
        answers: dict[str, Answer] = {}
        whole = set[str]()
        seconds, n_rows = 0.0, 0
        while asked := self._next(batch, answers):
            link = await self._choose()
            rows = [wire.row_of(request, self._first(link, request, whole)) for request in asked]
            try:
                reply = await self._ask(link, rows)
            except EngineAwayError as error:
                log.warning("step_asked_again", engine=link.name, rows=len(rows), reason=str(error))
                if isinstance(error, EngineLostError):
                    self._losses.update(request.session for request in asked)
                await asyncio.sleep(RETRY_S)
                continue
            for request, answer in zip(asked, reply.rows, strict=True):
                self._take(link, request, answer, answers)
            whole = {request.session for request in asked if request.session not in answers}
            self._metrics.engine_resent.inc(len(whole))
            seconds, n_rows = reply.seconds, reply.n_rows
        return Stepped([answers[request.session] for request in batch], seconds, n_rows)

    def _next(self, batch: Sequence[StepRequest], answers: dict[str, Answer]) -> list[StepRequest]:
        """
        What to ask for next: all that has no answer, or one request alone if engines were lost with it.

        A request that ends the process of every engine that runs it must not end them all.
        """
        for request in batch:
            if self._losses[request.session] >= MOST_LOSSES:
                answers[request.session] = EngineError(f"{MOST_LOSSES} engine processes were lost with this step")
        asked = [request for request in batch if request.session not in answers]
        suspects = [request for request in asked if self._losses[request.session] >= MOST_LOSSES - 1]
        return suspects[:1] or asked

    def _first(self, link: EngineLink, request: StepRequest, whole: set[str]) -> int:
        """First frame to send: the engine process holds those before it, as far as is known."""
        held = self._held.get(request.session)
        if held is None or held.link is not link or request.session in whole:
            return 0
        is_same = request.window is not None and held.window == request.window
        return min(held.n_frames, request.log_mel.shape[1]) if is_same else 0

    def _take(self, link: EngineLink, request: StepRequest, answer: wire.RowAnswer, answers: dict[str, Answer]) -> None:
        if answer.needs_all:
            self._held.pop(request.session, None)
            return
        self._losses.pop(request.session, None)
        self._held[request.session] = _Held(link, request.window, request.log_mel.shape[1])
        answers[request.session] = answer.result or EngineError(answer.error)

    async def _ask(self, link: EngineLink, rows: Sequence[wire.Row], *, is_timed: bool = False) -> wire.Reply:
        """Call an engine; raises EngineAwayError where it is away, or too slow while another one can take the call."""
        patience_s = max(self._patience_s, SLOW * self.load.scale * self.load.costs.step_s(len(rows)))

        call = wire.Call(
            fingerprint=self._fingerprint,
            deadline_s=self._clock() + patience_s + link.ahead_s,
            most_rows=self.load.batch,
            rows=tuple(rows),
            is_timed=is_timed,
        )
        answer, n_bytes = link.begin(call)
        self._metrics.engine_sent.inc(n_bytes)
        try:
            for _ in range(MOST_WAITS):
                await asyncio.wait({answer}, timeout=patience_s)
                if answer.done():
                    return self._noted(answer.result())
                link.doubt()
                if self._other(link):
                    break
            raise EngineAwayError(f"engine {link.name} has not answered within {patience_s:.1f} s")
        finally:
            answer.cancel()

    def _noted(self, reply: wire.Reply) -> wire.Reply:
        for times in reply.times:
            self._engine_metrics.stepped(times)
        return reply

    # --- engines

    async def _choose(self) -> EngineLink:
        """The engine for the next call, once there is one; raises DeviceLostError where none will come back."""
        while (place := self._best()) is None:
            if self._pool.has_given_up:
                raise DeviceLostError("no engine process can be kept alive: the log says why each of them ended")
            await self._pool.changed()
        if place is not self._at:
            log.warning("worker_moves", from_engine=self._at.name, to_engine=place.name)
            self._metrics.engine_moves.inc()
            self._at = place
        assert place.link
        return place.link

    def _best(self) -> EnginePlace | None:
        """The worker's own engine if it is well, else the one that it is at, else the one with the fewest calls."""
        for place in (self._home, self._at):
            if place.link and place.link.is_steady:
                return place
        return least_burdened(self._pool)

    def _other(self, link: EngineLink) -> bool:
        """Whether another engine is well."""
        return any(place.link and place.link is not link and place.link.is_steady for place in self._pool.places)


def least_burdened(pool: EnginePool, but: Collection[EngineLink] = ()) -> EnginePlace | None:
    """An engine that answers, one that is well and has few calls first, none of `but`; None: there is none now."""
    answering = (each for each in pool.places if each.link and each.link.is_answering and each.link not in but)
    return min(answering, key=_burden, default=None)


def _burden(place: EnginePlace) -> tuple[bool, int]:
    """Engines that are well first, then those with few calls."""
    assert place.link
    return not place.link.is_steady, place.link.n_calls
