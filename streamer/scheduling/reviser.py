"""
Decodes ended turns once more, on a thread of its own that gives way to the workers, and only while there is room.

Turns of live sessions wait in a bounded queue. They are decoded while at most half of the places speak; at the bound
the oldest one is dropped, and its turn keeps its live text. A live session that has ended waits for its last turns
while there is room, and for `MAX_BYE_WAIT_S` at most. Turns of recordings are never dropped: the audio of a recording
waits for them, so there is always room for them.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import structlog
import torch

from streamer.protocol.events import TurnRevised
from streamer.session.second_pass import Revision
from streamer.session.spec import ModelFacts
from streamer.step import Engine
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
"""Turns in a row whose steps fail, after which no turn is revised any more."""
NICENESS = 15
"""Of the thread: beside a worker that is busy on the same core, it gets one part in thirty of the time."""
SESSION = "revision"
"""Key of the engine's cache, in which nothing is kept: every window is seen once."""

log = structlog.get_logger()


class RevisingEngine(Engine, Protocol):
    """An engine that tells how much memory it holds."""

    @property
    def cache_bytes(self) -> tuple[int, int]:
        """Bytes of keys and values of text and of audio."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RevisingModel:
    """A model for second passes."""

    facts: ModelFacts
    new_engine: Callable[[], RevisingEngine]
    """Builds an engine of one row, for windows of 30 s. Called on the thread that runs its steps, which keeps it."""


class RevisionDecoder:
    """
    Decodes turns with the engine of a model, which is built when the first turn asks for it; on one thread.

    Args:
        models: At least one; the first one is taken where a turn names none.
    """

    def __init__(self, models: Sequence[RevisingModel]) -> None:
        self._models = {model.facts.name: model for model in models}
        self.models = tuple(self._models)
        """Names of the models; the first one is the default."""
        self._engines: dict[str, RevisingEngine] = {}
        self.busy_s = 0.0
        """CPU time of the decoding so far, seconds; on a GPU, time of the thread that waits for it."""
        self.audio_s = 0.0
        """Sound of the turns decoded so far, seconds."""

    @property
    def cache_bytes(self) -> list[tuple[int, int]]:
        """Bytes of keys and values of text and of audio, of each engine that was built."""
        return [engine.cache_bytes for engine in list(self._engines.values())]

    def decode(self, revision: Revision) -> TurnRevised | None:
        """
        Decode a turn once more; None where its text stays, or where the model does not know its language.

        Raises:
            EngineError: A step failed.
        """
        model = self._models[revision.model or self.models[0]]
        if revision.turn.language not in model.facts.tokenizer.languages:
            return None
        engine = self._engine(model)
        began_s = time.thread_time()
        results = [engine.step([request])[0] for request in revision.requests(model.facts, SESSION)]
        self.busy_s += time.thread_time() - began_s
        self.audio_s += revision.duration_s
        return revision.apply(results, model.facts)

    def _engine(self, model: RevisingModel) -> RevisingEngine:
        name = model.facts.name
        if name not in self._engines:
            self._engines[name] = model.new_engine()
        return self._engines[name]


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
    The queue of turns that wait, and the thread that decodes them.

    Args:
        decoder: Decodes one turn at a time.
        metrics: Metrics of the service.
        clock: Seconds on a monotonic clock.
    """

    def __init__(
        self, decoder: RevisionDecoder, metrics: ServiceMetrics, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.has_room: Callable[[], bool] = lambda: True
        """Whether few enough sessions speak; set by the scheduler."""
        self._decoder, self._metrics, self._clock = decoder, metrics, clock
        self._waiting: list[Job] = []
        self._work = asyncio.Event()
        self._n_failed = 0
        self.models = decoder.models
        """Names of the models that a turn may ask for."""
        metrics.revisions_waiting.set_function(lambda: len(self._waiting))

    def put(self, job: Job) -> None:
        """Let a turn wait; over the bound the oldest turn of a live session is dropped."""
        if self._n_failed >= MAX_FAILURES:
            self._finish(job, None, "failed")
            return
        self._waiting.append(job)
        live = [waiting for waiting in self._waiting if not waiting.is_patient]
        if len(live) > MAX_WAITING:
            self._drop(live[0])
        self._work.set()

    async def run(self) -> None:
        """Decode turns until cancelled."""
        thread = ThreadPoolExecutor(1, "reviser", initializer=_give_way)
        try:
            while True:
                await self._work.wait()
                self._drop_hopeless()
                job = self._next()
                if job is not None:
                    await self._decode(job, thread)
                elif self._waiting:
                    await asyncio.sleep(TICK_S)
                else:
                    self._work.clear()
        finally:
            thread.shutdown(wait=False, cancel_futures=True)

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
        for job in list(self._waiting):
            if job.is_left() or (not job.is_patient and job.is_ended() and not (has_room and self._may_wait(job))):
                self._drop(job)

    def _may_wait(self, job: Job) -> bool:
        now_s = self._clock()
        job.ended_at_s = now_s if job.ended_at_s is None else job.ended_at_s
        return now_s - job.ended_at_s < MAX_BYE_WAIT_S

    def _drop(self, job: Job) -> None:
        self._waiting.remove(job)
        self._finish(job, None, "dropped")

    async def _decode(self, job: Job, thread: ThreadPoolExecutor) -> None:
        before_s = self._decoder.busy_s
        try:
            event = await asyncio.get_running_loop().run_in_executor(thread, self._decoder.decode, job.revision)
        except Exception:
            self._n_failed += 1
            log.exception("revision_failed", failures=self._n_failed)
            self._finish(job, None, "failed")
            if self._n_failed >= MAX_FAILURES:
                self._give_up()
        else:
            self._n_failed = 0
            self._metrics.revision_s.inc(self._decoder.busy_s - before_s)
            self._finish(job, event, "same" if event is None else "revised")

    def _give_up(self) -> None:
        log.error("revisions_given_up", failures=self._n_failed)
        for job in list(self._waiting):
            self._waiting.remove(job)
            self._finish(job, None, "failed")

    def _finish(self, job: Job, event: TurnRevised | None, outcome: RevisionOutcome) -> None:
        self._metrics.revisions.labels(outcome).inc()
        job.settle(event)


def _give_way() -> None:
    """Compute on one CPU thread, after the workers; where the platform knows no priority of threads, beside them."""
    torch.set_num_threads(1)
    if sys.platform == "linux":
        with contextlib.suppress(OSError):  # a sandbox may forbid it
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
