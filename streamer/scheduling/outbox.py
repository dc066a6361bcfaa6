"""
The events of one session on their way to its client, bounded, and read by one connection at a time.

Captions and acks replace older ones (`protocol.event_queue`); every other event is kept and delivered.

A connection may be lost and another one take over. Events read by the lost connection may never have arrived: turns
that end at or after the client's last stable word, the newest turn in any case, and the open turn are sent again under
their numbers, and after them the revisions of turns. A client therefore knows turns by their numbers, and a number that
comes again replaces the earlier turn.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Sequence

from streamer.errors import StreamerError
from streamer.protocol.event_queue import CoalescingQueue
from streamer.protocol.events import Bye, Caption, Event, TurnEnd, TurnRevised

MAX_REPEATED = 64
"""Turns that are kept to be sent again to a client that resumes, and as many revisions."""


class Outbox:
    """
    A bounded queue of events, on the event loop only.

    Args:
        max_unread: Events that may wait to be read; with one more the outbox is over its bound.
    """

    def __init__(self, max_unread: int) -> None:
        self._max_unread = max_unread
        self._events = CoalescingQueue()
        self._readable = asyncio.Event()
        self._read_turns: deque[TurnEnd] = deque(maxlen=MAX_REPEATED)
        self._read_revisions: deque[TurnRevised] = deque(maxlen=MAX_REPEATED)
        self._read_caption: Caption | None = None
        self.error: StreamerError | None = None
        """Why the session could not go on; raised to the reader after the events before it."""
        self.reader = 0
        """Number of the connection that reads; another one after each `take_over`."""

    def __len__(self) -> int:
        """Events that wait to be read."""
        return len(self._events)

    @property
    def is_over_bound(self) -> bool:
        """Whether the client reads too slowly."""
        return len(self._events) > self._max_unread

    def put(self, events: Sequence[Event]) -> None:
        """Add events for the reader."""
        for event in events:
            self._events.put(event)
        if self._events:
            self._readable.set()

    def fail(self, error: StreamerError) -> None:
        """End with an error after the events that wait."""
        self.error = error
        self._readable.set()

    def take_over(self, stable_s: float) -> None:
        """
        Give the events to a new connection, and send again what the old one may have lost; its events end.

        Args:
            stable_s: End of the text that the client has, stream time in seconds.
        """
        self.reader += 1
        self._events.put_back(self._perhaps_lost(stable_s))
        self._read_turns.clear()
        self._read_revisions.clear()
        self._read_caption = None
        self._readable.set()

    def read(self) -> AsyncIterator[Event]:
        """
        Events until `Bye`, for one reader at a time: `take_over` ends them, and the next reader gets the rest.

        Raises:
            StreamerError: The session could not go on; it is over.
        """
        # the number is taken now: a reader that is taken over before its first event must not begin
        return self._read_as(self.reader)

    async def _read_as(self, reader: int) -> AsyncIterator[Event]:
        while True:
            await self._readable.wait()
            if reader != self.reader:
                return
            if not self._events:
                if self.error is not None:
                    raise self.error
                self._readable.clear()
                continue
            event = self._take()
            yield event
            if isinstance(event, Bye):
                return

    def _take(self) -> Event:
        event = self._events.take()
        if isinstance(event, Caption):
            self._read_caption = event
        elif isinstance(event, TurnEnd):
            self._read_turns.append(event)
            self._read_caption = None
        elif isinstance(event, TurnRevised):
            self._read_revisions.append(event)
        return event

    def _perhaps_lost(self, stable_s: float) -> list[Event]:
        """Turns that a broken connection read, and the open turn unless a newer caption of it waits."""
        newest = self._read_turns[-1] if self._read_turns else None
        # the time of a withdrawn turn, or of one that ends with the client's last word, does not tell if it arrived
        lost: list[Event] = [turn for turn in self._read_turns if turn.end_s >= stable_s or turn is newest]
        lost += self._read_revisions
        caption = self._read_caption
        if caption and not any(isinstance(e, Caption | TurnEnd) and e.turn == caption.turn for e in self._events):
            lost.append(caption)
        return lost

    def check_integrity(self) -> None:
        """
        Check that no reader misses what waits, and that unread captions and acks were coalesced.

        Raises:
            AssertionError: One of them does not hold.
        """
        if (self._events or self.error) and not self._readable.is_set():
            raise AssertionError(f"outbox holds {len(self._events)} events, but its reader is not told")
        captions = [event.turn for event in self._events if isinstance(event, Caption)]
        if len(captions) != len(set(captions)):
            raise AssertionError(f"outbox holds several captions of one turn: {captions}")
