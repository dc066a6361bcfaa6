"""
Opens, resumes and ends sessions.

A session stays on its first worker, where the engine keeps its cache. Workers share nothing but the weights.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import secrets
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from typing import Any

import structlog

from streamer.errors import OverloadError
from streamer.protocol.options import SessionOptions
from streamer.scheduling.admission import Admission
from streamer.scheduling.options import SchedulerOptions
from streamer.scheduling.places import Place, Places
from streamer.scheduling.recording import Recordings
from streamer.scheduling.reviser import ROOM, Job, Reviser
from streamer.scheduling.session_handle import SessionHandle
from streamer.scheduling.worker import Worker
from streamer.scheduling.workers import Workers
from streamer.session.audio_window import WindowOptions
from streamer.session.journal import JournalledSession
from streamer.session.second_pass import Revision
from streamer.session.session import Session
from streamer.session.spec import ModelFacts, SessionSpec
from streamer.telemetry.metrics import ServiceMetrics
from streamer.telemetry.statistics import SchedulerStatistics

log = structlog.get_logger()

RECORDING_WAIT_S = 5.0
"""Longest wait for recordings at the end, seconds."""


class Scheduler:
    """
    Opens sessions on its workers, resumes and drains them.

    Args:
        model: See `ModelFacts`.
        workers: At least one.
        options: See `SchedulerOptions`.
        window: See `WindowOptions`.
        metrics: Metrics of the service.
        recordings: Records sessions for replay; None: they are not recorded.
        reviser: Decodes ended turns once more; None: they keep their text.
        places: Those of all processes of the daemon; None: this one has all.
        background: Run as long as the workers: they measure the idle machine, or keep engine processes alive.
    """

    def __init__(
        self,
        model: ModelFacts,
        workers: Sequence[Worker],
        options: SchedulerOptions,
        window: WindowOptions,
        metrics: ServiceMetrics,
        recordings: Recordings | None = None,
        reviser: Reviser | None = None,
        places: Places | None = None,
        background: Sequence[Callable[[], Coroutine[Any, Any, None]]] = (),
    ) -> None:
        self.model = model.name
        self.languages = tuple(model.tokenizer.languages)
        self._facts, self._workers = model, Workers(workers)
        self._admission = Admission(self._workers, options, metrics)
        self._options, self._window, self._metrics = options, window, metrics
        self._recordings, self._all_places = recordings, places
        self._background = [*background, *([reviser.run] if reviser else [])]
        self.revisers = reviser.models if reviser else ()
        """Names of the models for second passes."""
        self._left = asyncio.Event()
        self._draining = False
        for worker in workers:
            worker.on_closed = self._closed
            if reviser:
                worker.on_revision = functools.partial(self._ask_for_revision, reviser, worker)
        if reviser:
            reviser.has_room = self._has_room_to_revise
        self._workers.publish(metrics, lambda: self.capacity)

    @property
    def n_sessions(self) -> int:
        """Open sessions, including those without a connection."""
        return self._workers.n_sessions

    @property
    def capacity(self) -> int:
        """Sessions admitted at most."""
        return self._admission.capacity

    async def begin(
        self,
        options: SessionOptions,
        *,
        session: str = "",
        token: str = "",
        offset_s: float = 0.0,
        context: str = "",
        caller: str = "",
        revises_all: bool = False,
        resumed: tuple[str, str] | None = None,
    ) -> SessionHandle:
        """
        Open a session once it has a place among those of all processes of the daemon.

        Args:
            options: See `open`, as for all others.
            session: Name of the session; empty: a random one.
            token: Secret that a client must present to resume; empty: a random one.
            offset_s: Stream time of the first sample, seconds.
            context: Text before the first sample.
            caller: Name of the API key that opens the session, or empty.
            revises_all: See `SessionSpec`.
            resumed: Name and secret of the session that it goes on with; another process that still has it ends it.

        Raises:
            OverloadError: As `open`.
        """
        name, token = session or f"s_{secrets.token_urlsafe(9)}", token or f"r_{secrets.token_urlsafe(18)}"
        place = await self._place(self._all_places, name, token, caller, resumed) if self._all_places else None
        try:
            return self.open(
                options,
                session=name,
                token=token,
                offset_s=offset_s,
                context=context,
                caller=caller,
                revises_all=revises_all,
                place=place,
                resumed=resumed,
            )
        except BaseException:
            if place:
                place.weigh(0.0)
            raise

    async def _place(
        self, places: Places, name: str, token: str, caller: str, resumed: tuple[str, str] | None
    ) -> Place:
        """A place for a session among those of all processes; raises OverloadError where there is none."""
        self._check_service()
        try:
            return await places.take(name, token, caller, self.capacity, resumed)
        except OverloadError:
            self._metrics.refused.inc()
            raise

    def open(
        self,
        options: SessionOptions,
        *,
        session: str = "",
        token: str = "",
        offset_s: float = 0.0,
        context: str = "",
        caller: str = "",
        revises_all: bool = False,
        place: Place | None = None,
        resumed: tuple[str, str] | None = None,
    ) -> SessionHandle:
        """
        Open a session on the worker with the fewest sessions, of those whose engine is there (`Workers.least_busy`).

        Args:
            options: Options whose language the model knows (`languages`); callers check it.
            session: Name of the session; empty: a random one.
            token: Secret that a client must present to resume; empty: a random one.
            offset_s: Stream time of the first sample, seconds.
            context: Text before the first sample.
            caller: Name of the API key that opens the session, or empty.
            revises_all: See `SessionSpec`.
            place: The one that it was given among those of all processes; None: there must be one here.
            resumed: As in `begin`.

        Raises:
            OverloadError: The daemon is full, shutting down or without any engine, or the caller has `max_per_caller`
                sessions.
        """
        self._check_service()
        if place is None:
            self._admission.check(caller)
        spec = SessionSpec(
            name=session or f"s_{secrets.token_urlsafe(9)}",
            options=options,
            window=self._window,
            model=self._facts,
            offset_s=offset_s,
            context=context,
            revises_all=revises_all,
        )
        worker = self._workers.least_busy()
        stream = self._handle(spec, worker, token or f"r_{secrets.token_urlsafe(18)}", caller)
        stream.place, stream.resumed = place, resumed
        worker.add(stream)
        self._metrics.opened.inc()
        log.info("session_opened", session=spec.name, caller=caller)
        return stream

    def _handle(self, spec: SessionSpec, worker: Worker, token: str, caller: str) -> SessionHandle:
        """A session on a worker, which is recorded where recordings are made."""
        recording = self._recordings.open(spec.name) if self._recordings else None
        return SessionHandle(
            JournalledSession(spec, recording.entry) if recording else Session(spec),
            token=token,
            max_backlog_s=self._options.max_backlog_s,
            max_unread=self._options.max_unread,
            caller=caller,
            wake=worker.wake,
            on_detach=self._detached,
            recording=recording,
        )

    def _check_service(self) -> None:
        """Raise OverloadError where no session can be opened now."""
        if self._draining:
            raise OverloadError("the daemon is shutting down: connect again in a moment", retry_after_s=5.0)
        if not self._workers.capacity:
            raise OverloadError("no engine is alive: connect again in a moment", retry_after_s=5.0)

    def resume(self, session: str, token: str, stable_s: float = 0.0) -> SessionHandle | None:
        """
        Resume a session by its name and token; None if it is over or given up, or the token is wrong.

        A client may return before its old connection is found dead: the new connection takes over.

        Args:
            session: Name of the session.
            token: Secret that `open` returned.
            stable_s: End of the text that the client has, stream time in seconds; later turns are sent again.
        """
        stream = self._workers.find(session, token)
        if stream is None:
            return None
        self._metrics.resumed.inc()
        stream.attach(stable_s)
        self._admission.weigh(stream)
        return stream

    def make_room(self, caller: str, *, is_greedy: bool = False) -> bool:
        """See `Admission.make_room`."""
        return self._admission.make_room(caller, is_greedy=is_greedy)

    def give_up(self, session: str, token: str) -> None:
        """
        End a session whose client goes on in another process; nothing where the session is not here.

        Args:
            session: Its name.
            token: Its secret.
        """
        if stream := self._workers.find(session, token):
            stream.abandon()
            self._admission.weigh(stream)

    async def run(self) -> None:
        """Run all workers and background tasks until cancelled; the failure of one ends all."""
        async with asyncio.TaskGroup() as group:
            for run in (*(worker.run for worker in self._workers), *self._background):
                group.create_task(run())

    async def wait_empty(self, deadline_s: float) -> None:
        """Wait until no session is open, at most `deadline_s` seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(deadline_s):
                await self._wait_empty()

    async def _wait_empty(self) -> None:
        while self.n_sessions:
            self._left.clear()
            await self._left.wait()

    async def drain(self, deadline_s: float) -> None:
        """Refuse new sessions, end all open ones, and wait until each has said `Bye`, at most `deadline_s` seconds."""
        self._draining = True
        for stream in self._workers.sessions():
            stream.end(continues_elsewhere=True)
        try:
            async with asyncio.timeout(deadline_s):
                await self._wait_empty()
        except TimeoutError:
            log.warning("drain_incomplete", sessions=self.n_sessions)
        await self.finish_recordings()

    async def finish_recordings(self) -> None:
        """Wait until the recordings of ended sessions are on disk, at most `RECORDING_WAIT_S`."""
        if self._recordings:
            await asyncio.to_thread(self._recordings.wait, RECORDING_WAIT_S)

    @property
    def is_alive(self) -> bool:
        """Whether every worker's loop runs and its steps are answered, or will be; true during a drain too."""
        return self._workers.is_alive

    def is_ready(self) -> bool:
        """Whether new sessions are admitted and can be served: some engine answers now."""
        return not self._draining and self.is_alive and self._workers.can_step

    def statistics(self) -> SchedulerStatistics:
        """What the scheduler is doing now."""
        return self._workers.statistics(self.capacity)

    def check_integrity(self) -> None:
        """
        Check the counters of every open session, for tests and long runs.

        Raises:
            AssertionError: A counter does not match what is held.
        """
        for stream in self._workers.sessions():
            stream.check_integrity()

    def _ask_for_revision(self, reviser: Reviser, worker: Worker, stream: SessionHandle, revision: Revision) -> None:
        """Let a turn of a worker's session wait for its second pass."""
        job = Job(
            revision=revision,
            settle=functools.partial(worker.settle, stream, revision.turn.turn),
            is_patient=stream.session.revises_all,
            is_ended=lambda: stream.session.takes_no_more,
            is_left=lambda: stream.is_left or stream.has_failed,
        )
        reviser.put(job)

    def _has_room_to_revise(self) -> bool:
        return self._workers.n_speaking_total <= ROOM * self._workers.capacity

    def _detached(self, stream: SessionHandle) -> None:
        if not stream.has_sound:
            stream.abandon()  # there is nothing that a client could come back for
        if not stream.is_left and any(stream.id in worker.streams for worker in self._workers):
            loop = asyncio.get_running_loop()
            stream.expiry = loop.call_later(0 if self._draining else self._options.resume_s, self._expired, stream)
        self._admission.weigh(stream)

    def _expired(self, stream: SessionHandle) -> None:
        stream.expire()
        self._admission.weigh(stream)

    def _closed(self, stream: SessionHandle) -> None:
        if stream.expiry:
            stream.expiry.cancel()
        if stream.recording:
            stream.recording.close()
        if stream.place:
            stream.place.weigh(0.0)
        self._left.set()
        self._metrics.ended.labels("error" if stream.has_failed else "end").inc()
        _log_end(stream)


def _log_end(stream: SessionHandle) -> None:
    log.info(
        "session_ended",
        session=stream.id,
        caller=stream.caller,
        outcome="error" if stream.has_failed else "end",
        audio_s=round(stream.received_s, 1),
        turns=stream.session.n_turns,
        words=stream.counters.n_words,
        steps=stream.session.n_steps,
        failed_steps=stream.counters.n_failed_steps,
        mean_commit_s=round(stream.counters.mean_commit_s, 2),
        worst_commit_s=round(stream.counters.worst_commit_s, 2),
        resumed=stream.counters.n_resumed,
    )


@contextlib.asynccontextmanager
async def running(scheduler: Scheduler) -> AsyncIterator[None]:
    """Run a scheduler for the length of a block; its failure ends the block."""
    async with asyncio.TaskGroup() as group:
        task = group.create_task(scheduler.run())
        yield
        task.cancel()
