"""
Admission, placement and end of sessions.

A session stays on its first worker, where the engine keeps its cache. Workers share nothing but the weights.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import hmac
import secrets
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import structlog

from streamer.access.places import greediest
from streamer.errors import OverloadError
from streamer.protocol.options import SessionOptions
from streamer.scheduling.decoder import Decoder
from streamer.scheduling.idle_calibration import IdleCalibration
from streamer.scheduling.places import Place, Places
from streamer.scheduling.recording import Recordings
from streamer.scheduling.reviser import ROOM, Job, Reviser
from streamer.scheduling.session_handle import SessionHandle
from streamer.scheduling.worker import Worker
from streamer.session.audio_window import WindowOptions
from streamer.session.journal import JournalledSession
from streamer.session.second_pass import Revision
from streamer.session.session import Session
from streamer.session.spec import ModelFacts, SessionSpec
from streamer.telemetry.metrics import ServiceMetrics
from streamer.telemetry.statistics import SchedulerStatistics, SessionStatistics

log = structlog.get_logger()

WAITING_COST = 0.25
"""Part of a place that a session without a connection takes by measurement: it needs no steps, but may come back."""
RECORDING_WAIT_S = 5.0
"""Longest wait for recordings at the end, seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SchedulerOptions:
    """Bounds of all sessions; the defaults are those of the configuration."""

    max_backlog_s: float
    """Audio of one session that waits before its sender is slowed down, seconds."""
    max_sessions: int
    """Sessions at once; 0: as many as the workers can serve by their measurement."""
    max_unread: int
    """Events of one session that may wait to be read."""
    max_per_caller: int
    """Sessions of one API key at once; 0: only the bound of all sessions applies."""
    resume_s: float
    """Time that a session without a connection is kept, seconds."""
    silent_s: float = 3.0
    """Time after which a session that never had sound gives way to a new one, seconds."""
    greedy_s: float = 0.5
    """The same time for a session of the caller who has most, where a caller with fewer wants the place."""


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
        calibration: Measures the machine while nobody speaks; None: it is measured at the start alone.
        supervision: Keeps engine processes alive for as long as it runs; None: there are none.
        reviser: Decodes ended turns once more; None: they keep their text.
        places: Those of all processes of the daemon; None: this one has all.
    """

    def __init__(
        self,
        model: ModelFacts,
        workers: Sequence[Worker],
        options: SchedulerOptions,
        window: WindowOptions,
        metrics: ServiceMetrics,
        recordings: Recordings | None = None,
        calibration: IdleCalibration | None = None,
        supervision: Callable[[], Coroutine[Any, Any, None]] | None = None,
        reviser: Reviser | None = None,
        places: Places | None = None,
    ) -> None:
        self.model = model.name
        self.languages = tuple(model.tokenizer.languages)
        self._facts, self._workers = model, workers
        self._options, self._window, self._metrics = options, window, metrics
        self._recordings, self._calibration, self._supervision = recordings, calibration, supervision
        self._reviser, self._all_places = reviser, places
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
        metrics.capacity.set_function(lambda: self.capacity)
        metrics.sessions.set_function(lambda: self.n_sessions)
        metrics.speaking.set_function(lambda: sum(worker.n_speaking for worker in workers))
        metrics.detached.set_function(lambda: sum(not stream.is_attached for stream in self._streams()))
        metrics.stalled.set_function(lambda: sum(stream.counters.is_stalled for stream in self._streams()))
        metrics.backlog.set_function(lambda: max((stream.backlog_s for stream in self._streams()), default=0.0))
        metrics.unread.set_function(lambda: max((stream.n_unread for stream in self._streams()), default=0))
        metrics.interval.set_function(lambda: max(worker.interval_s for worker in workers))
        metrics.queue.set_function(lambda: sum(worker.n_due for worker in workers))
        metrics.lag.set_function(lambda: max(worker.worst_lag_s for worker in workers))
        for decoder in (worker.decoder for worker in workers):
            name = decoder.statistics().name
            metrics.engine_alive.labels(name).set_function(functools.partial(_is_alive, decoder))

    @property
    def n_sessions(self) -> int:
        """Open sessions, including those without a connection."""
        return sum(len(worker.streams) for worker in self._workers)

    @property
    def capacity(self) -> int:
        """Sessions admitted at most."""
        return self._options.max_sessions or sum(worker.decoder.capacity for worker in self._workers)

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
        name = session or f"s_{secrets.token_urlsafe(9)}"
        place = None
        if self._all_places:
            self._check_service()
            place = await self._all_places.take(name, caller, self.capacity, resumed)
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
            )
        except BaseException:
            if place:
                place.weigh(0.0)
            raise

    def open(
        self,
        options: SessionOptions,
        *,
        session: str | None = None,
        token: str | None = None,
        offset_s: float = 0.0,
        context: str = "",
        caller: str = "",
        revises_all: bool = False,
        place: Place | None = None,
    ) -> SessionHandle:
        """
        Open a session on the worker with the fewest sessions, of those whose engine is there.

        Args:
            options: Options whose language the model knows (`languages`); callers check it.
            session: Name of the session; by default a random one.
            token: Secret that a client must present to resume; by default a random one.
            offset_s: Stream time of the first sample, seconds.
            context: Text before the first sample.
            caller: Name of the API key that opens the session, or empty.
            revises_all: See `SessionSpec`.
            place: The one that it was given among those of all processes; None: there must be one here.

        Raises:
            OverloadError: The daemon is full, shutting down or without any engine, or the caller has `max_per_caller`
                sessions.
        """
        self._check_service()
        if place is None:
            self._check_places(caller)
        # one whose engine is not there burdens the engines of the others
        worker = min(self._workers, key=lambda worker: (not worker.decoder.capacity, len(worker.streams)))
        name = session or f"s_{secrets.token_urlsafe(9)}"
        recording = self._recordings.open(name) if self._recordings else None
        spec = SessionSpec(
            name=name,
            options=options,
            window=self._window,
            model=self._facts,
            offset_s=offset_s,
            context=context,
            revises_all=revises_all,
        )
        stream = SessionHandle(
            JournalledSession(spec, recording.entry) if recording else Session(spec),
            token=token or f"r_{secrets.token_urlsafe(18)}",
            max_backlog_s=self._options.max_backlog_s,
            max_unread=self._options.max_unread,
            caller=caller,
            wake=worker.wake,
            on_detach=self._detached,
            recording=recording,
        )
        stream.place = place
        worker.add(stream)
        self._metrics.opened.inc()
        log.info("session_opened", session=name, caller=caller)
        return stream

    def _check_service(self) -> None:
        """Raise OverloadError where no session can be opened now."""
        if self._draining:
            raise OverloadError("the daemon is shutting down: connect again in a moment", retry_after_s=5.0)
        if not any(worker.decoder.capacity for worker in self._workers):
            raise OverloadError("no engine is alive: connect again in a moment", retry_after_s=5.0)

    def _check_places(self, caller: str) -> None:
        taken = [stream for stream in self._streams() if not (stream.is_over or stream.is_left)]
        own = [stream for stream in taken if stream.caller == caller]
        if caller and 0 < self._options.max_per_caller <= len(own):
            self._make_room(own, f"no free place for this API key: {len(own)} sessions open, as many as it may have")
        elif sum(map(self._places, taken)) > self.capacity - 1 and not self._end_greedy(taken, caller):
            self._make_room(taken, f"no free place: {len(taken)} of {self.capacity} sessions open; try again later")

    def _places(self, stream: SessionHandle) -> float:
        """Places that a session takes. A bound that the operator has set counts sessions, not what they cost."""
        return 1.0 if stream.is_attached or self._options.max_sessions else WAITING_COST

    def _make_room(self, streams: Sequence[SessionHandle], refusal: str) -> None:
        """End the oldest of the sessions that never had sound for `silent_s`; raises OverloadError if there is none."""
        if not self._end_silent(streams, self._options.silent_s):
            self._metrics.refused.inc()
            raise OverloadError(refusal, retry_after_s=10.0)

    def _end_greedy(self, streams: Sequence[SessionHandle], caller: str) -> bool:
        """End the oldest session without sound of whoever has more of these than a caller; whether there was one."""
        greedy = greediest((stream.caller for stream in streams), caller)
        theirs = [stream for stream in streams if greedy and stream.caller == greedy]
        return self._end_silent(theirs, self._options.greedy_s)

    def _end_silent(self, streams: Sequence[SessionHandle], silent_s: float) -> bool:
        """End the oldest of these sessions that never had sound for so many seconds; whether there was one."""
        latest_s = time.monotonic() - silent_s
        silent = [stream for stream in streams if not stream.has_sound and stream.opened_at_s <= latest_s]
        if silent:
            oldest = min(silent, key=lambda stream: stream.opened_at_s)
            gives_way = "no sound came, and another client needs the place: connect again when there is sound"
            oldest.give_way(OverloadError(gives_way, retry_after_s=10.0))
            self._weigh(oldest)
        return bool(silent)

    def resume(self, session: str, token: str, stable_s: float = 0.0) -> SessionHandle | None:
        """
        Resume a session by its name and token; None if it is over or the token is wrong.

        A client may return before its old connection is found dead: the new connection takes over.

        Args:
            session: Name of the session.
            token: Secret that `open` returned.
            stable_s: End of the text that the client has, stream time in seconds; later turns are sent again.
        """
        stream = self._find(session, token)
        if stream is None:
            return None
        self._metrics.resumed.inc()
        stream.attach(stable_s)
        self._weigh(stream)
        return stream

    def make_room(self, caller: str, *, is_greedy: bool = False) -> bool:
        """
        End the oldest session that never had sound for `silent_s`, so that another process can give its place away.

        Args:
            caller: Whose sessions; empty: anybody's.
            is_greedy: Whether the place is for somebody who has fewer: then `greedy_s` is enough.

        Returns:
            Whether there was one.
        """
        taken = [stream for stream in self._streams() if not (stream.is_over or stream.is_left)]
        silent_s = self._options.greedy_s if is_greedy else self._options.silent_s
        return self._end_silent([stream for stream in taken if caller in ("", stream.caller)], silent_s)

    def give_up(self, session: str, token: str) -> bool:
        """
        End a session whose client goes on in another process.

        Args:
            session: Its name.
            token: Its secret.

        Returns:
            Whether there was such a session.
        """
        stream = self._find(session, token)
        if stream is None:
            return False
        stream.abandon()
        self._weigh(stream)
        return True

    async def run(self) -> None:
        """Run all workers until cancelled; the failure of one worker ends all."""
        async with asyncio.TaskGroup() as group:
            for worker in self._workers:
                group.create_task(worker.run())
            if self._calibration:
                group.create_task(self._calibration.run())
            if self._supervision:
                group.create_task(self._supervision())
            if self._reviser:
                group.create_task(self._reviser.run())

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
        for worker in self._workers:
            for stream in worker.streams.values():
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
        return all(worker.is_alive for worker in self._workers)

    def is_ready(self) -> bool:
        """Whether new sessions are admitted and can be served: some engine answers now."""
        can_step = any(worker.decoder.is_ready for worker in self._workers)
        return not self._draining and self.is_alive and can_step

    def statistics(self) -> SchedulerStatistics:
        """What the scheduler is doing now."""
        return SchedulerStatistics(
            n_sessions=self.n_sessions,
            n_speaking=sum(worker.n_speaking for worker in self._workers),
            capacity=self.capacity,
            interval_s=max(worker.interval_s for worker in self._workers),
            row_cost_s=max(worker.meter.row_cost_s for worker in self._workers),
            worst_lag_s=max(worker.worst_lag_s for worker in self._workers),
            n_steps=sum(worker.n_steps for worker in self._workers),
            engines=tuple(worker.decoder.statistics() for worker in self._workers),
            sessions=tuple(map(_statistics, self._streams())),
        )

    def check_integrity(self) -> None:
        """
        Check the counters of every open session, for tests and long runs.

        Raises:
            AssertionError: A counter does not match what is held.
        """
        for stream in self._streams():
            stream.check_integrity()

    def _weigh(self, stream: SessionHandle) -> None:
        """Tell what a session takes of the places of all processes."""
        if stream.place:
            stream.place.weigh(0.0 if stream.is_over or stream.is_left else self._places(stream))

    def _find(self, session: str, token: str) -> SessionHandle | None:
        stream = next((worker.streams[session] for worker in self._workers if session in worker.streams), None)
        # as bytes: text that is not ASCII cannot be compared in constant time
        if stream is None or not hmac.compare_digest(stream.token.encode(), token.encode(errors="surrogatepass")):
            return None
        return stream

    def _streams(self) -> Iterator[SessionHandle]:
        for worker in self._workers:
            yield from worker.streams.values()

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
        n_speaking = sum(worker.n_burdening for worker in self._workers)
        return n_speaking <= ROOM * sum(worker.decoder.capacity for worker in self._workers)

    def _detached(self, stream: SessionHandle) -> None:
        if not stream.has_sound:
            stream.abandon()  # there is nothing that a client could come back for
        if not stream.is_left and any(stream.id in worker.streams for worker in self._workers):
            loop = asyncio.get_running_loop()
            stream.expiry = loop.call_later(0 if self._draining else self._options.resume_s, stream.end)
        self._weigh(stream)

    def _closed(self, stream: SessionHandle) -> None:
        if stream.expiry:
            stream.expiry.cancel()
        if stream.recording:
            stream.recording.close()
        if stream.place:
            stream.place.weigh(0.0)
        self._left.set()
        self._metrics.ended.labels("error" if stream.has_failed else "end").inc()
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


def _is_alive(decoder: Decoder) -> float:
    return float(decoder.statistics().is_alive)


def _statistics(stream: SessionHandle) -> SessionStatistics:
    return SessionStatistics(
        id=stream.id,
        caller=stream.caller,
        audio_s=stream.received_s,
        lag_s=stream.session.lag_s + stream.backlog_s,
        n_turns=stream.session.n_turns,
        n_words=stream.counters.n_words,
        n_steps=stream.session.n_steps,
        n_unread=stream.n_unread,
        mean_commit_s=stream.counters.mean_commit_s,
        is_speaking=stream.session.is_speaking,
        is_stalled=stream.counters.is_stalled,
        is_attached=stream.is_attached,
    )


@contextlib.asynccontextmanager
async def running(scheduler: Scheduler) -> AsyncIterator[None]:
    """Run a scheduler for the length of a block; its failure ends the block."""
    async with asyncio.TaskGroup() as group:
        task = group.create_task(scheduler.run())
        yield
        task.cancel()
