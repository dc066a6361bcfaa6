"""
One room: the captions of one speaker at a time, for any number of read-only viewers.

Each event is encoded once for all viewers. Each viewer has its own bounded queue, so a slow viewer does not delay the
others: a caption replaces an unread caption of its turn, and a viewer with more than MAX_PENDING unread messages is
cut. Viewers are woken in slices, so that a full room does not hold up the event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import secrets
from collections import deque
from collections.abc import AsyncIterator, Iterator
from typing import NamedTuple

from msgspec import UNSET, structs

from streamer.protocol.events import Caption, Event, TurnEnd
from streamer.protocol.messages import RoomState, encode

MAX_PENDING = 256
"""Most unread messages of a viewer since it joined; with one more it is cut (1013), and its page connects again."""
HISTORY = 2000
"""Past turns that are kept for viewers who join late: several hours of talk, less than a megabyte."""
WAKE_AT_ONCE = 64
"""Viewers woken before the event loop runs anything else."""


class Message(NamedTuple):
    """One encoded event. `turn` is set for a caption, which a newer caption of the same turn may replace."""

    number: int
    turn: int | None
    text: str


class Viewer:
    """The queue of one viewer. A caption replaces an older caption of its turn; all other messages are kept."""

    def __init__(self, messages: list[Message]) -> None:
        self._cut = asyncio.Event()
        self.is_behind = False
        """Whether it has messages since it was last woken."""
        self._pending: deque[Message] = deque(messages)
        self._n_past = len(messages)
        """Messages from before it joined that it has not read."""
        self._news = asyncio.Event()

    def put(self, message: Message) -> None:
        """Queue a message, or cut the viewer if its queue is full; `wake` lets it read."""
        if self._pending and message.turn is not None and self._pending[-1].turn == message.turn:
            self._pending[-1] = message
        elif len(self._pending) - self._n_past < MAX_PENDING and not self.is_cut:
            self._pending.append(message)
        else:
            self._cut.set()
            self._pending.clear()

    @property
    def is_cut(self) -> bool:
        """Whether the queue was full."""
        return self._cut.is_set()

    async def wait_cut(self) -> None:
        """Wait until the viewer is cut; its reader may be stuck in the middle of a message."""
        await self._cut.wait()

    def wake(self) -> None:
        """Let the viewer read the queued messages."""
        self.is_behind = False
        self._news.set()

    async def __aiter__(self) -> AsyncIterator[Message]:
        """Iterate over the messages; ends when the viewer is cut."""
        while not self.is_cut:
            while self._pending:
                self._n_past = max(0, self._n_past - 1)
                yield self._pending.popleft()
            self._news.clear()
            await self._news.wait()


class Room:
    """
    A room: takes the events of a speaker and gives each viewer its messages.

    Args:
        room: Name that viewers know.
    """

    def __init__(self, room: str = "microphone") -> None:
        self.run = secrets.token_hex(4)
        """Random; distinguishes the message numbers of this room from those before a restart."""
        self._room = room
        self._numbers = itertools.count(1)
        self._viewers: dict[Viewer, None] = {}
        self._behind: deque[Viewer] = deque()
        self._turns: deque[Message] = deque(maxlen=HISTORY)
        self._open_turn: Message | None = None
        self._speaker = 0
        self.session = ""
        """Session that speaks, or spoke last."""
        self._n_speaking = 0

    @property
    def n_viewers(self) -> int:
        """Viewers in the room."""
        return len(self._viewers)

    @property
    def is_live(self) -> bool:
        """Whether a session speaks in the room now."""
        return self._n_speaking > 0

    @contextlib.contextmanager
    def speaking(self, session: str) -> Iterator[None]:
        """
        Let a session speak for the duration of the block; a new session clears the transcript of the one before.

        Two blocks of the same session may overlap: a client resumes before its lost connection is noticed.
        """
        if session != self.session:
            self.session, self._speaker, self._open_turn = session, self._speaker + 1, None
            self._turns.clear()
        self._n_speaking += 1
        self._send(self._state())
        try:
            yield
        finally:
            self._n_speaking -= 1
            self._send(self._state())

    def publish(self, event: Event) -> None:
        """Queue a caption or the end of a turn for every viewer, without its words; ignore other events."""
        if not isinstance(event, Caption | TurnEnd):
            return
        message = self._message(structs.replace(event, words=UNSET))
        if isinstance(event, Caption):
            self._open_turn = message
        else:
            self._open_turn = None
            self._turns.append(message)
        self._send(message)

    def join(self, after: int = 0) -> Viewer:
        """Add a viewer; its queue holds the last turns after message number `after`, and the open turn."""
        turns = [message for message in self._turns if message.number > after]
        viewer = Viewer([self._state(len(turns)), *turns, *([self._open_turn] if self._open_turn else ())])
        self._viewers[viewer] = None
        return viewer

    def leave(self, viewer: Viewer) -> None:
        """Remove a viewer; an unknown viewer is ignored."""
        self._viewers.pop(viewer, None)

    def _state(self, n_turns: int = 0) -> Message:
        return self._message(RoomState(room=self._room, speaker=self._speaker, live=self.is_live, turns=n_turns))

    def _message(self, event: Event | RoomState) -> Message:
        return Message(next(self._numbers), event.turn if isinstance(event, Caption) else None, encode(event))

    def _send(self, message: Message) -> None:
        is_waking = bool(self._behind)
        for viewer in self._viewers:
            viewer.put(message)
            if not viewer.is_behind:
                viewer.is_behind = True
                self._behind.append(viewer)
        if self._behind and not is_waking:
            self._wake_some()

    def _wake_some(self) -> None:
        for _ in range(min(WAKE_AT_ONCE, len(self._behind))):
            self._behind.popleft().wake()
        if self._behind:
            asyncio.get_running_loop().call_soon(self._wake_some)
