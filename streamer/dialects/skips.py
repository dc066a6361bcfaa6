"""Events for the places of a recording where sound was lost, told among the events of its session. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from streamer.audio.notes import Note
from streamer.protocol.events import Ack, Bye, Event, Skipped, TurnEnd


class Skips:
    """
    The places that were not told yet.

    Args:
        notes: Of a recording; those about the whole of it are no places.
    """

    def __init__(self, notes: Iterable[Note]) -> None:
        self._left = deque(sorted((note.at_s, note.text) for note in notes if note.at_s is not None))

    def before(self, event: Event) -> list[Skipped]:
        """
        Events for the places that stand before this event of the session; before `Bye` all that are left.

        What was lost takes no stream time: an interval ends where it begins.
        """
        skipped = []
        while self._left and self._left[0][0] <= _reached_s(event):
            at_s, text = self._left.popleft()
            skipped.append(Skipped(start_s=at_s, end_s=at_s, reason=text))
        return skipped


def _reached_s(event: Event) -> float:
    """Stream time up to which everything was told before an event, seconds."""
    match event:
        case Ack(stable_s=stable_s):
            return stable_s
        case TurnEnd(start_s=start_s):
            return start_s
        case Bye():
            return float("inf")
    return 0.0
