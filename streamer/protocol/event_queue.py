"""
Queue of events for a slow reader, which drops events that newer ones supersede.

A caption replaces an unread caption of the same turn, an ack an unread ack. All other events are kept in order.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator

from streamer.protocol.events import Ack, Caption, Event


class CoalescingQueue:
    """Unbounded queue of events. The owner checks the length and decides when the reader is too slow."""

    def __init__(self) -> None:
        self._events: deque[Event] = deque()

    def __len__(self) -> int:
        return len(self._events)

    def __iter__(self) -> Iterator[Event]:
        return iter(self._events)

    def put(self, event: Event) -> None:
        """Append an event, or replace the older one that it supersedes."""
        if not self._supersedes(event):
            self._events.append(event)

    def put_back(self, events: Iterable[Event]) -> None:
        """Insert events, in order, before all queued ones."""
        self._events.extendleft(reversed(list(events)))

    def take(self) -> Event:
        """
        Remove and return the oldest event.

        Raises:
            IndexError: The queue is empty.
        """
        return self._events.popleft()

    def _supersedes(self, event: Event) -> bool:
        """Whether the event took the place of an older one; an older ack is removed instead."""
        for i in range(len(self._events) - 1, -1, -1):
            old = self._events[i]
            if isinstance(event, Caption) and isinstance(old, Caption) and old.turn == event.turn:
                # keep the place: a reader must see stable text before the ack that reports it
                self._events[i] = event
                return True
            if isinstance(event, Ack) and isinstance(old, Ack):
                # move to the end, for the same reason
                del self._events[i]
                return False
        return False
