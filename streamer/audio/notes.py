"""What to know of how a recording was decoded: sound that was lost, and channels that were chosen. Pure."""

from __future__ import annotations

from dataclasses import dataclass

MERGE_S = 1.0
"""Losses that are closer to each other, in seconds of decoded sound, are told as one place."""
MAX_PLACES = 20
"""Places that are told one by one; more are counted."""


@dataclass(frozen=True, slots=True)
class Note:
    """One thing to know, in words."""

    text: str
    at_s: float | None = None
    """Where sound is missing, in seconds of decoded sound; None: the note is about the whole recording."""

    def __str__(self) -> str:
        return self.text if self.at_s is None else f"at {self.at_s:.1f} s: {self.text}"


@dataclass(slots=True)
class _Place:
    at_s: float
    until_s: float
    lost_s: float
    cause: str


class Losses:
    """Collects the losses of one track, in the order of time; memory does not grow with their number."""

    def __init__(self) -> None:
        self._places: list[_Place] = []
        self._n_more = 0
        self._more_s = 0.0

    def __bool__(self) -> bool:
        return bool(self._places)

    def add(self, at_s: float, lost_s: float, cause: str = "could not be decoded") -> None:
        """
        Count one loss.

        Args:
            at_s: Seconds of sound that were decoded before it.
            lost_s: Length of what was lost, as far as it is known, seconds.
            cause: Why, as the end of a sentence.
        """
        last = self._places[-1] if self._places else None
        if last is not None and last.cause == cause and at_s - last.until_s <= MERGE_S:
            last.until_s, last.lost_s = at_s, last.lost_s + lost_s
        elif len(self._places) < MAX_PLACES:
            self._places.append(_Place(at_s, at_s, lost_s, cause))
        else:
            self._n_more, self._more_s = self._n_more + 1, self._more_s + lost_s

    def notes(self) -> tuple[Note, ...]:
        """A note for each place."""
        told = [Note(f"{_amount(place.lost_s)} {place.cause}", place.at_s) for place in self._places]
        if self._n_more:
            told.append(Note(f"{_amount(self._more_s)} was lost at {self._n_more} more places"))
        return tuple(told)


def _amount(lost_s: float) -> str:
    return f"{lost_s:.2g} s of sound" if lost_s >= 0.005 else "sound"
