"""Counters of one session: for its line in the log, for `/statz`, and to detect that it stalls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from streamer.protocol.events import Caption, Event, Speech, TurnEnd

STALL_S = 10.0
"""Voice without new text that counts as a stall, seconds: the engine is stuck, or the microphone has only noise."""


@dataclass(slots=True)
class SessionCounters:
    """Counters of one session; times are stream time in seconds, as the session gives them."""

    n_words: int = 0
    """Words made stable."""
    n_failed_steps: int = 0
    n_resumed: int = 0
    """Connections that took over from another one."""
    commit_s: float = 0.0
    """Sum over the words of the time from the end of the word to its commit, seconds."""
    worst_commit_s: float = 0.0
    is_stalled: bool = False
    _texted_s: float = 0.0

    @property
    def mean_commit_s(self) -> float:
        """Mean time from the end of a word to its commit, seconds; 0 without words."""
        return self.commit_s / self.n_words if self.n_words else 0.0

    def add_word(self, commit_s: float) -> None:
        """Count a word that was committed `commit_s` seconds after its end."""
        self.n_words += 1
        self.commit_s += commit_s
        self.worst_commit_s = max(self.worst_commit_s, commit_s)

    def watch(self, events: Sequence[Event], now_s: float, *, speaking: bool) -> bool:
        """
        Update the stall detection.

        Args:
            events: New events of the session.
            now_s: End of its received audio, stream time.
            speaking: Whether a turn is open.

        Returns:
            Whether the session has just begun to stall.
        """
        was_stalled = self.is_stalled
        if not speaking or any(isinstance(event, Caption | TurnEnd | Speech) for event in events):
            self._texted_s = now_s
        self.is_stalled = now_s - self._texted_s > STALL_S
        return self.is_stalled and not was_stalled
