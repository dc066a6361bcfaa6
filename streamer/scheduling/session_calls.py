"""Calls into sessions: an error of one ends it alone, and what it answers is counted and handed out."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import TypeVar

import structlog

from streamer.errors import EngineError, StreamerError
from streamer.protocol.events import Event
from streamer.scheduling.decoder import Answer
from streamer.scheduling.session_handle import SessionHandle
from streamer.session.second_pass import Revision
from streamer.session.session import Step
from streamer.telemetry.metrics import ServiceMetrics

MAX_FAILURES = 3
"""Steps of one session in a row that fail before the session ends with an error."""

T = TypeVar("T")
log = structlog.get_logger()


class SessionCalls:
    """
    Calls into the sessions of a worker, all on the event loop.

    Args:
        metrics: Metrics of the service.
        on_revision: Called with a turn that asks for its second pass.
    """

    def __init__(self, metrics: ServiceMetrics, on_revision: Callable[[SessionHandle, Revision], None]) -> None:
        self._metrics, self._on_revision = metrics, on_revision

    def guard(self, stream: SessionHandle, call: Callable[[], T]) -> T | None:
        """Call into one session; an error of the session ends it alone, and gives None. Others go on."""
        try:
            return call()
        except StreamerError as error:
            stream.fail(error)
        except Exception:
            log.exception("session_fault", session=stream.id)
            stream.fail(EngineError("a fault of the daemon; its log says more"))
        return None

    def say(self, stream: SessionHandle, call: Callable[[], list[Event]]) -> None:
        """Hand out the events of a call into a session, and count them; nothing once it has failed."""
        if not stream.has_failed:
            self.guard(stream, lambda: self._hand_out(stream, call()))

    def apply(self, stream: SessionHandle, step: Step, answer: Answer) -> None:
        """
        Give a session what a step has found, or that it failed.

        Args:
            stream: The session.
            step: Asked for by it.
            answer: Of the decoder. After `MAX_FAILURES` errors in a row the session ends.
        """
        if step.request.final:
            stream.final_at_s, stream.final_received_s = time.monotonic(), stream.session.received_s
        if isinstance(answer, EngineError):
            self._fail(stream, answer)
        else:
            stream.n_failures = 0
            self.say(stream, functools.partial(stream.session.apply, step, answer))

    def _fail(self, stream: SessionHandle, error: EngineError) -> None:
        self._metrics.failures.inc()
        stream.n_failures += 1
        stream.counters.n_failed_steps += 1
        log.error("step_failed", session=stream.id, failures=stream.n_failures, error=str(error))
        self.guard(stream, stream.session.cancel_step)
        if stream.n_failures >= MAX_FAILURES:
            stream.fail(EngineError(f"{MAX_FAILURES} steps failed in a row: the session cannot go on"))

    def _hand_out(self, stream: SessionHandle, events: list[Event]) -> None:
        for word in stream.session.take_newly_stable():
            commit_s = max(0.0, stream.received_s - word.said_s[1])
            self._metrics.words.inc()
            if not stream.session.revises_all:  # a recording is there before it is due
                self._metrics.commit.observe(commit_s)
            stream.counters.add_word(commit_s)
        if stream.counters.watch(events, stream.session.received_s, speaking=stream.session.is_speaking):
            log.warning("session_stalled", session=stream.id, at_s=round(stream.session.received_s, 1))
        stream.say(events)
        for revision in stream.session.take_revisions():
            self._on_revision(stream, revision)
