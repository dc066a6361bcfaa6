"""Admission: how many sessions may be open, and which of them give their places to others."""

from __future__ import annotations

import time
from collections.abc import Sequence

from streamer.access.places import greediest
from streamer.errors import OverloadError
from streamer.scheduling.options import SchedulerOptions
from streamer.scheduling.session_handle import SessionHandle
from streamer.scheduling.workers import Workers
from streamer.telemetry.metrics import ServiceMetrics

WAITING_COST = 0.25
"""Part of a place that a session without a connection takes by measurement: it needs no steps, but may come back."""


class Admission:
    """
    Counts the places that sessions take.

    Where all are taken, the oldest session that never had sound gives way: a client that has nothing to say keeps
    nobody out.

    Args:
        workers: Have the sessions.
        options: See `SchedulerOptions`.
        metrics: Count the refusals.
    """

    def __init__(self, workers: Workers, options: SchedulerOptions, metrics: ServiceMetrics) -> None:
        self._workers, self._options, self._metrics = workers, options, metrics

    @property
    def capacity(self) -> int:
        """Sessions admitted at most."""
        return self._options.max_sessions or self._workers.capacity

    def check(self, caller: str) -> None:
        """
        Check that a caller may open one more session, for which another one may have to give way.

        Raises:
            OverloadError: All places are taken, or the caller has `max_per_caller` sessions.
        """
        taken = self._taken()
        own = [stream for stream in taken if stream.caller == caller]
        if caller and 0 < self._options.max_per_caller <= len(own):
            self._replace(own, f"no free place for this API key: {len(own)} sessions open, as many as it may have")
        elif sum(map(self._cost, taken)) > self.capacity - 1 and not self._end_greedy(taken, caller):
            self._replace(taken, f"no free place: {len(taken)} of {self.capacity} sessions open; try again later")

    def make_room(self, caller: str, *, is_greedy: bool) -> bool:
        """
        End the oldest session that never had sound for `silent_s`, so that another process can give its place away.

        Args:
            caller: Whose sessions; empty: anybody's.
            is_greedy: Whether the place is for somebody who has fewer: then `greedy_s` is enough.

        Returns:
            Whether there was one.
        """
        silent_s = self._options.greedy_s if is_greedy else self._options.silent_s
        return self._end_silent([stream for stream in self._taken() if caller in ("", stream.caller)], silent_s)

    def weigh(self, stream: SessionHandle) -> None:
        """Tell what a session takes of the places of all processes."""
        if stream.place:
            stream.place.weigh(0.0 if stream.is_over or stream.is_left else self._cost(stream))

    def _taken(self) -> list[SessionHandle]:
        """Sessions that take a place."""
        return [stream for stream in self._workers.sessions() if not (stream.is_over or stream.is_left)]

    def _cost(self, stream: SessionHandle) -> float:
        """Places that a session takes. A bound that the operator has set counts sessions, not what they cost."""
        return 1.0 if stream.is_attached or self._options.max_sessions else WAITING_COST

    def _replace(self, streams: Sequence[SessionHandle], refusal: str) -> None:
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
            self.weigh(oldest)
        return bool(silent)
