"""
Events on their way to a reader that may be slow: what an unread one gives its place to. Pure.

A caption replaces an unread caption of its turn, an ack an unread ack; everything else is kept, in order.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator

from streamer.protocol.events import Ack, Caption, Event


class CoalescingQueue:
    """A queue of events; its owner looks at its length and decides when a reader is too slow."""

    def __init__(self) -> None:
        self._events: deque[Event] = deque()

    def __len__(self) -> int:
        return len(self._events)

    def __iter__(self) -> Iterator[Event]:
        return iter(self._events)

    def put(self, event: Event) -> None:
        """Add the newest event."""
        if not self._supersedes(event):
            self._events.append(event)

    def put_back(self, events: Iterable[Event]) -> None:
        """Add events, in order, before all others."""
        self._events.extendleft(reversed(list(events)))

    def take(self) -> Event:
        """The oldest event."""
        return self._events.popleft()

    def clear(self) -> None:
        """Drop them all."""
        self._events.clear()

    def _supersedes(self, event: Event) -> bool:
        """Whether an older event gave its place to this one."""
        for i in range(len(self._events) - 1, -1, -1):
            old = self._events[i]
            if isinstance(event, Caption) and isinstance(old, Caption) and old.turn == event.turn:
                # in its place: text that an unread ack calls stable must be read before that ack
                self._events[i] = event
                return True
            if isinstance(event, Ack) and isinstance(old, Ack):
                # not in its place, for the same reason
                del self._events[i]
                return False
        return False
