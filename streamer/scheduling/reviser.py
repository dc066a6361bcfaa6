"""
The ended turns that wait to be decoded once more, which is done only while there is room.

Turns of live sessions wait in a bounded queue. They are decoded while at most half of the places speak; at the bound
the oldest one is dropped, and its turn keeps its live text. A live session that has ended waits for its last turns
while there is room, and for `MAX_BYE_WAIT_S` at most. Turns of recordings are never dropped: the audio of a recording
waits for them, so there is always room for them.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import structlog

from streamer.errors import OverloadError
from streamer.protocol.events import TurnRevised
from streamer.session.second_pass import Revision
from streamer.telemetry.metrics import RevisionOutcome, ServiceMetrics

MAX_WAITING = 64
"""Turns of live sessions that wait; most hold half a megabyte, the longest 1.5."""
ROOM = 0.5
"""Part of the places up to which sessions may speak while turns of live sessions are decoded again."""
MAX_BYE_WAIT_S = 10.0
"""Longest time that a live session which has ended waits for its turns, seconds."""
TICK_S = 0.25
"""Between two looks at whether there is room, while turns wait, seconds."""
MAX_FAILURES = 3
"""Turns in a row whose steps fail, after which none is revised for a while."""
RETRY_S = 300.0
"""Time after which the next turn is tried, seconds; if that one fails too, as long again."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Revised:
    """What a second pass has found, and what it has cost."""

    event: TurnRevised | None
    """None: the text of the turn stays."""
    seconds: float
    """CPU time of the decoding; on a GPU, time of the thread that waits for it."""


class TurnDecoder(Protocol):
    """Decodes turns once more, in this process or in another one."""

    @property
    def models(self) -> tuple[str, ...]:
        """Names of the models that a turn may ask for; the first one is the default."""

    async def decode(self, revision: Revision) -> Revised:
        """
        Decode a turn once more.

        Raises:
            EngineError: A step failed.
            OverloadError: There was no time for it, which is nobody's fault.
        """
        ...

    def close(self) -> None:
        """No turn is decoded any more."""


@dataclass(slots=True, kw_only=True, eq=False)
class Job:
    """A turn that waits, and what is to be known of its session meanwhile."""

    revision: Revision
    settle: Callable[[TurnRevised | None], None]
    """Takes the result, on the event loop; called once."""
    is_patient: bool
    """Whether it must not be dropped."""
    is_ended: Callable[[], bool]
    """Whether the session gets no more audio: it waits for its turns to say `Bye`."""
    is_left: Callable[[], bool]
    """Whether nobody will read the result."""
    ended_at_s: float | None = None
    """When the session was first found to have ended, by the clock of the reviser; None: it has not."""


class Reviser:
    """
    The queue of turns that wait, which are decoded one after another.

    Args:
        decoder: Decodes them.
        metrics: Metrics of the service.
        clock: Seconds on a monotonic clock.
    """

    def __init__(
        self, decoder: TurnDecoder, metrics: ServiceMetrics, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.has_room: Callable[[], bool] = lambda: True
        """Whether few enough sessions speak; set by the scheduler."""
        self._decoder, self._metrics, self._clock = decoder, metrics, clock
        self._waiting: list[Job] = []
        self._decoding: Job | None = None
        """The turn that is decoded now; None: there is none, or its session has ceased to wait for it."""
        self._work = asyncio.Event()
        self._n_failed = 0
        self._given_up_until_s = -math.inf
        self.models = decoder.models
        """Names of the models that a turn may ask for."""
        metrics.revisions_waiting.set_function(lambda: len(self._waiting))

    def put(self, job: Job) -> None:
        """Let a turn wait; over the bound the oldest turn of a live session is dropped."""
        if self._clock() < self._given_up_until_s:
            self._finish(job, None, "failed")
            return
        self._waiting.append(job)
        live = [waiting for waiting in self._waiting if not waiting.is_patient]
        if len(live) > MAX_WAITING:
            self._drop(live[0])
        self._work.set()

    async def run(self) -> None:
        """Decode turns until cancelled."""
        try:
            while True:
                await self._work.wait()
                self._drop_hopeless()
                job = self._next()
                if job is not None:
                    await self._decode(job)
                elif self._waiting:
                    await asyncio.sleep(TICK_S)
                else:
                    self._work.clear()
        finally:
            self._decoder.close()

    def _next(self) -> Job | None:
        """Take the oldest turn that may be decoded now; those of recordings always may."""
        has_room = self.has_room()
        job = next((job for job in self._waiting if has_room or job.is_patient), None)
        if job is not None:
            self._waiting.remove(job)
        return job

    def _drop_hopeless(self) -> None:
        """Drop turns that nobody will read, and those of ended sessions that have waited too long or have no room."""
        has_room = self.has_room()
        for job in [*self._waiting, *([self._decoding] if self._decoding else [])]:
            if job.is_left() or (not job.is_patient and job.is_ended() and not (has_room and self._may_wait(job))):
                self._drop(job)

    def _may_wait(self, job: Job) -> bool:
        now_s = self._clock()
        job.ended_at_s = now_s if job.ended_at_s is None else job.ended_at_s
        return now_s - job.ended_at_s < MAX_BYE_WAIT_S

    def _drop(self, job: Job) -> None:
        if job is self._decoding:
            self._decoding = None
        else:
            self._waiting.remove(job)
        self._finish(job, None, "dropped")

    async def _decode(self, job: Job) -> None:
        self._decoding = job
        try:
            revised = await self._decoded(job.revision)
        except OverloadError as error:
            log.warning("revision_not_made", reason=str(error))
            self._finish_decoding(None, "dropped")
        except Exception:
            self._n_failed += 1
            log.exception("revision_failed", failures=self._n_failed)
            self._finish_decoding(None, "failed")
            if self._n_failed >= MAX_FAILURES:
                self._give_up()
        else:
            self._n_failed = 0
            self._metrics.revision_s.inc(revised.seconds)
            self._finish_decoding(revised.event, "same" if revised.event is None else "revised")

    async def _decoded(self, revision: Revision) -> Revised:
        """The result of a second pass; turns that are not waited for any more are dropped meanwhile, its own too."""
        decoding = asyncio.create_task(self._decoder.decode(revision))
        try:
            while not (await asyncio.wait({decoding}, timeout=TICK_S))[0]:
                self._drop_hopeless()
            return decoding.result()
        finally:
            decoding.cancel()

    def _finish_decoding(self, event: TurnRevised | None, outcome: RevisionOutcome) -> None:
        job, self._decoding = self._decoding, None
        if job:
            self._finish(job, event, outcome)

    def _give_up(self) -> None:
        self._given_up_until_s = self._clock() + RETRY_S
        log.error("revisions_given_up", failures=self._n_failed, retry_s=RETRY_S)
        for job in list(self._waiting):
            self._waiting.remove(job)
            self._finish(job, None, "failed")

    def _finish(self, job: Job, event: TurnRevised | None, outcome: RevisionOutcome) -> None:
        self._metrics.revisions.labels(outcome).inc()
        job.settle(event)
