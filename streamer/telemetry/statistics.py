"""The present state of the scheduler and its sessions, as plain values."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionStatistics:
    """The present state of one session."""

    id: str
    caller: str
    audio_s: float
    lag_s: float
    """Audio received and not yet seen by a step, seconds."""
    n_turns: int
    n_words: int
    n_steps: int
    n_unread: int
    mean_commit_s: float
    is_speaking: bool
    is_stalled: bool
    is_attached: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineStatistics:
    """The present state of one engine."""

    name: str
    pid: int
    """Of its process; 0 while it has none."""
    n_rows: int
    """Rows of steps that it has answered."""
    row_cost_s: float
    """Time of its device for one row, seconds."""
    is_alive: bool
    n_restarts: int
    """Times that its process was started again."""
    is_wanted: bool = True
    """Whether it is missed where it does not answer: a cluster has fewer engines while few speak."""
    resident_bytes: int = 0
    """Memory of a process of its own; 0: it has none, or has not told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SchedulerStatistics:
    """The present state of the scheduler."""

    n_sessions: int
    n_speaking: int
    capacity: int
    interval_s: float
    """Present interval between partial steps of the busiest worker, seconds."""
    row_cost_s: float
    """Device time of one row of a step on the slowest worker, seconds."""
    worst_lag_s: float
    n_steps: int
    engines: tuple[EngineStatistics, ...]
    sessions: tuple[SessionStatistics, ...]
