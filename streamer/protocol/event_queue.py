"""
Queue of events for a slow reader, which drops events that newer ones supersede.

A caption replaces an unread caption of the same turn, an ack an unread ack. All other events are kept in order.
"""

from __future__ import annotations

import itertools
from collections import OrderedDict
from collections.abc import Iterable, Iterator

from streamer.protocol.events import Ack, Caption, Event


class CoalescingQueue:
    """
    Unbounded queue of events. The owner checks the length and decides when the reader is too slow.

    Whatever waits, an event is put and taken in the same time: four thousand that wait would be four thousand looks.
    """

    def __init__(self) -> None:
        self._events: OrderedDict[tuple[str, int], Event] = OrderedDict()
        """By their kinds; what supersedes nothing has a number of its own."""
        self._numbers = itertools.count()

    def __len__(self) -> int:
        return len(self._events)

    def __iter__(self) -> Iterator[Event]:
        return iter(self._events.values())

    def put(self, event: Event) -> None:
        """Append an event, or replace the older one that it supersedes."""
        key = self._key(event)
        if isinstance(event, Ack):
            # it moves to the end, and a caption keeps its place: a reader must see stable text before its ack
            self._events.pop(key, None)
        self._events[key] = event

    def put_back(self, events: Iterable[Event]) -> None:
        """Insert events, in order, before all queued ones; what one of these supersedes is left out."""
        for event in reversed(list(events)):
            key = self._key(event)
            if key not in self._events:
                self._events[key] = event
                self._events.move_to_end(key, last=False)

    def take(self) -> Event:
        """
        Remove and return the oldest event.

        Raises:
            KeyError: The queue is empty.
        """
        return self._events.popitem(last=False)[1]

    def _key(self, event: Event) -> tuple[str, int]:
        match event:
            case Caption(turn=turn):
                return "caption", turn
            case Ack():
                return "ack", 0
            case _:
                return "", next(self._numbers)
