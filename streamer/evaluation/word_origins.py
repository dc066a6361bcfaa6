"""Where each final word of a session came from: the step that said it first, and why it became stable. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from streamer.evaluation.word_tracker import WordTracker
from streamer.protocol.events import Caption, Event, TurnEnd, Word


class Moment(NamedTuple):
    """A point in the life of a session."""

    step: int
    """The newest step, counted from 1; 0 before the first one."""
    received_s: float
    """Audio received by then, in stream time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WordOrigin:
    """The origin of one final word."""

    word: Word
    first: Moment
    """When it was said at its place of the turn, and not replaced since but in case and punctuation."""
    stable: Moment
    reason: str
    """Why it became stable."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnOrigins:
    """A turn that ended, with the origin of each of its words."""

    turn: TurnEnd
    origins: tuple[WordOrigin, ...]

    def __str__(self) -> str:
        turn = self.turn
        head = f"turn {turn.turn}, {turn.start_s:.2f} to {turn.end_s:.2f} s, {turn.language}, {turn.reason}"
        return "\n".join([f"{head}: {turn.text}", *map(_line, self.origins)])


def _line(origin: WordOrigin) -> str:
    first, stable = origin.first, origin.stable
    return (
        f"  {origin.word.start_s:7.2f} s  {origin.word.text:<20} "
        f"said by step {first.step} at {first.received_s:.2f} s, "
        f"stable by step {stable.step} at {stable.received_s:.2f} s: {origin.reason}"
    )


class OriginTracker:
    """Collects the origins of the words of each turn from the events of a session."""

    def __init__(self) -> None:
        self.turns: list[TurnOrigins] = []
        """The turns that ended so far."""
        self._tracker = WordTracker(_without_marks)
        self._first: dict[int, Moment] = {}
        self._stable: dict[int, Moment] = {}

    def see(self, events: Sequence[Event], now: Moment) -> None:
        """Take the events that came at one moment."""
        for event in events:
            match event:
                case Caption(turn=turn, words=tuple(words)):
                    self._see_words(turn, words, now)
                case TurnEnd(turn=turn, words=tuple(words)):
                    n_agreed = len(self._stable)
                    self._see_words(turn, words, now)
                    origins = tuple(self._origin(i, word, n_agreed, event.reason) for i, word in enumerate(words))
                    self.turns.append(TurnOrigins(turn=event, origins=origins))
                    self._first, self._stable = {}, {}

    def _see_words(self, turn: int, words: Sequence[Word], now: Moment) -> None:
        changes = self._tracker.see(turn, words)
        self._first |= dict.fromkeys([*changes.added, *changes.replaced], now)
        self._stable |= dict.fromkeys(changes.settled, now)

    def _origin(self, i: int, word: Word, n_agreed: int, reason: str) -> WordOrigin:
        first, stable = self._first[i], self._stable[i]
        agreed = f"{stable.step - first.step + 1} steps agreed"
        return WordOrigin(
            word=word, first=first, stable=stable, reason=agreed if i < n_agreed else f"end of turn ({reason})"
        )


def _without_marks(text: str) -> str:
    return "".join(c for c in text.casefold() if c.isalnum())
