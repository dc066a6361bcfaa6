"""
One room: the captions of one speaker at a time, for any number of viewers who hear, and are heard by, nobody.

Every event is encoded once for all viewers. Each has a bounded queue of its own, so a slow one costs no other
anything: a caption replaces an unread caption of its turn, and who leaves `MAX_PENDING` messages unread is cut.
Viewers are woken in slices, so that a full room never holds up the loop that also hears the speaker.
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
"""Messages a viewer may be behind; with one more it is cut, and shall connect again."""
HISTORY = 50
"""Turns that are kept for who comes late."""
WAKE_AT_ONCE = 64
"""Viewers woken before the event loop turns to anything else."""


class Message(NamedTuple):
    """One encoded event; `turn` is that of a caption, which a newer one may replace."""

    number: int
    turn: int | None
    text: str


class Viewer:
    """The queue of one viewer. A caption replaces an older one of its turn; nothing else is lost."""

    def __init__(self, messages: list[Message]) -> None:
        self._cut = asyncio.Event()
        self.is_behind = False
        """Whether it has messages of which it was not told yet."""
        self._pending: deque[Message] = deque(messages)
        self._news = asyncio.Event()

    def put(self, message: Message) -> None:
        """Queue a message, or cut the viewer if it is too far behind; `wake` tells it."""
        if self._pending and message.turn is not None and self._pending[-1].turn == message.turn:
            self._pending[-1] = message
        elif len(self._pending) < MAX_PENDING and not self.is_cut:
            self._pending.append(message)
        else:
            self._cut.set()
            self._pending.clear()

    @property
    def is_cut(self) -> bool:
        """Whether it was too far behind."""
        return self._cut.is_set()

    async def wait_cut(self) -> None:
        """Wait until it is too far behind: it may be stuck in the middle of a message."""
        await self._cut.wait()

    def wake(self) -> None:
        """Let it read what is there."""
        self.is_behind = False
        self._news.set()

    async def __aiter__(self) -> AsyncIterator[Message]:
        """The messages; ends when the viewer was cut."""
        while not self.is_cut:
            while self._pending:
                yield self._pending.popleft()
            self._news.clear()
            await self._news.wait()


class Room:
    """
    Where a speaker's events go in, and the viewers' messages come out.

    Args:
        room: Its name, as viewers know it.
    """

    def __init__(self, room: str = "microphone") -> None:
        self.run = secrets.token_hex(4)
        """Tells the numbers of this room from those of one before a restart."""
        self._room = room
        self._numbers = itertools.count(1)
        self._viewers: dict[Viewer, None] = {}
        self._behind: deque[Viewer] = deque()
        self._turns: deque[Message] = deque(maxlen=HISTORY)
        self._open_turn: Message | None = None
        self._speaker = 0
        self.session = ""
        """Who speaks, or did last."""
        self._n_speaking = 0

    @property
    def n_viewers(self) -> int:
        """Viewers in the room."""
        return len(self._viewers)

    @property
    def is_live(self) -> bool:
        """Whether somebody may speak now."""
        return self._n_speaking > 0

    @contextlib.contextmanager
    def speaking(self, session: str) -> Iterator[None]:
        """
        Let a session speak for the length of a block; another one than before begins the transcript anew.

        Of one session two blocks may overlap: a client comes back before its lost connection is noticed.
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
        """Hand a caption or the end of a turn to every viewer, words left out; never waits."""
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
        """A new viewer, who is shown the last turns at once, those up to the message `after` left out."""
        turns = [message for message in self._turns if message.number > after]
        viewer = Viewer([self._state(len(turns)), *turns, *([self._open_turn] if self._open_turn else ())])
        self._viewers[viewer] = None
        return viewer

    def leave(self, viewer: Viewer) -> None:
        """Forget a viewer."""
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
