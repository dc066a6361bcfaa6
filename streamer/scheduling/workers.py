"""The workers of one process, and the sessions on them: where a new one goes, and what all of them do now."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from streamer.scheduling.session_handle import SessionHandle
from streamer.scheduling.worker import Worker
from streamer.telemetry.metrics import ServiceMetrics
from streamer.telemetry.statistics import EngineStatistics, SchedulerStatistics, SessionStatistics


class Workers:
    """
    All workers; a session stays on its first one, where the engine keeps its cache.

    Args:
        workers: At least one.
    """

    def __init__(self, workers: Sequence[Worker]) -> None:
        self._workers = workers

    def __iter__(self) -> Iterator[Worker]:
        return iter(self._workers)

    def sessions(self) -> Iterator[SessionHandle]:
        """Open sessions, including those without a connection."""
        for worker in self._workers:
            yield from worker.streams.values()

    @property
    def n_sessions(self) -> int:
        """Open sessions."""
        return sum(len(worker.streams) for worker in self._workers)

    @property
    def capacity(self) -> int:
        """Sessions that they can serve by their measurement; 0: no engine is there."""
        return sum(worker.decoder.capacity for worker in self._workers)

    @property
    def n_speaking_total(self) -> int:
        """Sessions with an open turn that their engines serve, those of other processes among them."""
        return sum(worker.n_speaking_total for worker in self._workers)

    @property
    def is_alive(self) -> bool:
        """Whether every worker's loop runs and its steps are answered, or will be."""
        return all(worker.is_alive for worker in self._workers)

    @property
    def can_step(self) -> bool:
        """Whether some engine answers now."""
        return any(worker.decoder.is_ready for worker in self._workers)

    def least_busy(self) -> Worker:
        """The worker with the fewest sessions, of those whose engine is there; speakers elsewhere on it count too."""
        return min(self._workers, key=_burden)

    def find(self, session: str, token: str) -> SessionHandle | None:
        """A session by name and secret; None: it is not here or given up, or a wrong secret."""
        streams = (stream for stream in self.sessions() if not stream.is_left)
        return next((stream for stream in streams if stream.is_of(session, token)), None)

    # --- what they do now

    def publish(self, metrics: ServiceMetrics, capacity: Callable[[], int]) -> None:
        """
        Publish what the workers do as gauges, which are read whenever somebody asks.

        Args:
            metrics: Where.
            capacity: Sessions admitted at most.
        """
        metrics.capacity.set_function(capacity)
        metrics.sessions.set_function(lambda: self.n_sessions)
        metrics.speaking.set_function(lambda: sum(worker.n_speaking for worker in self))
        metrics.detached.set_function(lambda: sum(not stream.is_attached for stream in self.sessions()))
        metrics.stalled.set_function(lambda: sum(stream.counters.is_stalled for stream in self.sessions()))
        metrics.backlog.set_function(lambda: max((stream.backlog_s for stream in self.sessions()), default=0.0))
        metrics.unread.set_function(lambda: max((stream.n_unread for stream in self.sessions()), default=0))
        metrics.interval.set_function(lambda: max(worker.interval_s for worker in self))
        metrics.queue.set_function(lambda: sum(worker.n_due for worker in self))
        metrics.lag.set_function(lambda: max(worker.worst_lag_s for worker in self))
        metrics.engine_alive.set_function(lambda: {engine.name: engine.is_alive for engine in self._engines()})
        metrics.engine_memory.set_function(
            lambda: {engine.name: engine.resident_bytes for engine in self._engines() if engine.resident_bytes}
        )

    def statistics(self, capacity: int) -> SchedulerStatistics:
        """The same as plain values; `capacity`: sessions admitted at most."""
        return SchedulerStatistics(
            n_sessions=self.n_sessions,
            n_speaking=sum(worker.n_speaking for worker in self),
            capacity=capacity,
            interval_s=max(worker.interval_s for worker in self),
            row_cost_s=max(worker.meter.row_cost_s for worker in self),
            worst_lag_s=max(worker.worst_lag_s for worker in self),
            n_steps=sum(worker.n_steps for worker in self),
            engines=self._engines(),
            sessions=tuple(map(_statistics, self.sessions())),
        )

    def _engines(self) -> tuple[EngineStatistics, ...]:
        """The engines that answer, and those that are missed."""
        engines = (worker.decoder.statistics() for worker in self)
        return tuple(engine for engine in engines if engine.is_alive or engine.is_wanted)


def _burden(worker: Worker) -> tuple[bool, int]:
    # one whose engine is not there burdens the engines of the others
    return not worker.decoder.capacity, len(worker.streams) + worker.decoder.n_speaking_elsewhere


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
