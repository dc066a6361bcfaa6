"""The live transcript of one session: its turns, and the latency of each word. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from streamer.evaluation.word_tracker import WordTracker
from streamer.protocol.events import Caption, Event, TurnEnd, Word
from streamer.protocol.turns import FinalTurns
from streamer.text.joining import joined


@dataclass(slots=True)
class LiveTranscript:
    """Everything one session said, and the latency of every word."""

    duration_s: float
    """Of the recording."""
    turns: list[TurnEnd] = field(default_factory=list)
    revised: FinalTurns = field(default_factory=FinalTurns)
    """The turns, each as its second pass has revised it."""
    first_sight_s: list[float] = field(default_factory=list)
    """For each place of each turn: from the end of its first word to the event that showed it."""
    commit_s: list[float] = field(default_factory=list)
    """For each committed word: from its end to the event that made it stable."""
    n_rewritten: int = 0
    """Partial words that were replaced or withdrawn after an event had shown them."""

    @property
    def text(self) -> str:
        """The texts of all turns, joined."""
        return joined(turn.text for turn in self.turns)

    @property
    def revised_text(self) -> str:
        """The texts of all turns after their second pass, joined."""
        return joined(turn.text for turn in self.revised)


class LatencyTracker:
    """
    Builds the live transcript of a session from its events.

    Args:
        duration_s: Of the recording.
    """

    def __init__(self, duration_s: float) -> None:
        self.transcript = LiveTranscript(duration_s=duration_s)
        self._tracker = WordTracker()

    def see(self, event: Event, now_s: float) -> None:
        """Take the next event, which came at `now_s` of stream time."""
        self.transcript.revised.take(event)
        match event:
            case Caption(turn=turn, words=tuple(words)):
                self._see_words(turn, words, now_s)
            case TurnEnd(turn=turn, words=tuple(words)):
                self._see_words(turn, words, now_s)
                self.transcript.turns.append(event)

    def _see_words(self, turn: int, words: Sequence[Word], now_s: float) -> None:
        changes = self._tracker.see(turn, words)
        self.transcript.first_sight_s += [now_s - words[i].end_s for i in changes.added]
        self.transcript.commit_s += [now_s - words[i].end_s for i in changes.settled]
        self.transcript.n_rewritten += len(changes.replaced) + len(changes.withdrawn)
