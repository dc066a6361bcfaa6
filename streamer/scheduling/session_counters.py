"""What is counted of one session: for its line in the log, for `/statz`, and to notice that it stalls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from streamer.protocol.events import Caption, Event, Speech, TurnEnd

STALL_S = 10.0
"""Voice for so long without any new text is a stall: of the engine, or of a microphone that hears only noise."""


@dataclass(slots=True)
class SessionCounters:
    """Stream times are seconds; the session says what time it is."""

    n_words: int = 0
    """Made stable."""
    n_failed_steps: int = 0
    n_resumed: int = 0
    """Times that another connection took over."""
    commit_s: float = 0.0
    """Sum over the words, from the end of each to its being stable."""
    worst_commit_s: float = 0.0
    is_stalled: bool = False
    _texted_s: float = 0.0

    @property
    def mean_commit_s(self) -> float:
        """From the end of a word to its being stable; 0 without words."""
        return self.commit_s / self.n_words if self.n_words else 0.0

    def add_word(self, commit_s: float) -> None:
        """A word became stable so long after its end."""
        self.n_words += 1
        self.commit_s += commit_s
        self.worst_commit_s = max(self.worst_commit_s, commit_s)

    def watch(self, events: Sequence[Event], now_s: float, *, speaking: bool) -> bool:
        """Take notice of what the session says; whether it has just begun to stall."""
        was_stalled = self.is_stalled
        if not speaking or any(isinstance(event, Caption | TurnEnd | Speech) for event in events):
            self._texted_s = now_s
        self.is_stalled = now_s - self._texted_s > STALL_S
        return self.is_stalled and not was_stalled
