"""Bounds of the sessions of one process."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class SchedulerOptions:
    """Bounds of all sessions."""

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
