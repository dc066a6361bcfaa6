"""Follows each word of a turn from the first event that shows it to the event that makes it stable. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from streamer.protocol.events import Word


@dataclass(frozen=True, slots=True, kw_only=True)
class WordChanges:
    """The places of a turn, counted from 0, at which one event differs from the event before."""

    added: range
    """Shown for the first time, or again after they were withdrawn."""
    replaced: tuple[int, ...]
    """Shown before with another word."""
    withdrawn: range
    """Shown before, and no longer."""
    settled: range
    """Stable from now on."""


class WordTracker:
    """
    Compares the words of each caption and turn end with those shown before.

    Args:
        key: What of a text makes it another word; by default everything.
    """

    def __init__(self, key: Callable[[str], str] = str) -> None:
        self._key = key
        self._turn = -1
        self._shown: list[str] = []
        self._n_stable = 0

    def see(self, turn: int, words: Sequence[Word]) -> WordChanges:
        """Take all words of a turn as an event shows them; a new turn starts with nothing shown."""
        if turn != self._turn:
            self._turn, self._shown, self._n_stable = turn, [], 0
        before, shown = self._shown, [self._key(word.text) for word in words]
        n_stable = sum(word.stable for word in words)
        changes = WordChanges(
            added=range(len(before), len(shown)),
            replaced=tuple(i for i, (old, new) in enumerate(zip(before, shown, strict=False)) if old != new),
            withdrawn=range(len(shown), len(before)),
            settled=range(self._n_stable, n_stable),
        )
        self._shown, self._n_stable = shown, n_stable
        return changes
