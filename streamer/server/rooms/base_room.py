"""
Rooms and their viewers: each viewer has a bounded queue of its own, so a slow viewer does not delay the others.

A caption replaces an unread caption of its turn; a viewer with more than MAX_PENDING unread messages is cut. Viewers
are woken in slices, so that a full room does not hold up the event loop.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import NamedTuple, TypeVar

from streamer.protocol.bounds import MAX_PAST_TURNS

MAX_PENDING = 256
"""Most unread messages of a viewer since it joined; with one more it is cut (1013), and its page connects again."""
HISTORY = MAX_PAST_TURNS
"""Past turns that are kept for viewers who join late, and as many revisions."""
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
        self._pending: deque[Message]
        self._n_past: int
        self.begin(messages)
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

    def begin(self, messages: list[Message]) -> None:
        """Replace what waits by the messages of a joining viewer; `wake` lets it read."""
        self._pending = deque(messages)
        self._n_past = len(messages)

    @property
    def is_cut(self) -> bool:
        """Whether the queue was full."""
        return self._cut.is_set()

    @property
    def n_past(self) -> int:
        """Messages from before it joined that it has not read."""
        return self._n_past

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


V = TypeVar("V", bound=Viewer)


class BaseRoom(ABC):
    """
    A room as its viewers see it: who they are, and what is kept for those who join late.

    Args:
        room: Name that viewers know.
        run: Distinguishes the message numbers of this room from those before a restart.
    """

    def __init__(self, room: str, run: str) -> None:
        self.run = run
        self._room = room
        self._viewers: dict[Viewer, None] = {}
        self._behind: deque[Viewer] = deque()
        self._is_waking = False
        """Whether the rest of `_behind` is woken in a later turn of the event loop."""
        self._turns: dict[int, Message] = {}
        """The last turns by their numbers: a session that is resumed says its last ones again."""
        self._revisions: dict[int, Message] = {}
        """The last revisions by the numbers of their turns."""
        self._open_turn: Message | None = None

    @property
    def n_viewers(self) -> int:
        """Viewers in the room."""
        return len(self._viewers)

    def join(self, after: int = 0) -> Viewer:
        """Add a viewer; its queue holds the last turns after message number `after`, and the open turn."""
        return self.join_as(Viewer, after)

    def join_as(self, make: Callable[[list[Message]], V], after: int = 0) -> V:
        """
        Add a viewer of another kind.

        Args:
            make: Makes it with the messages of its beginning.
            after: As `join`.
        """
        viewer = make(self._beginning(after))
        self._viewers[viewer] = None
        return viewer

    def begin_again(self, viewer: Viewer) -> None:
        """Replace what waits for a viewer by all that the room keeps."""
        viewer.begin(self._beginning())

    def leave(self, viewer: Viewer) -> None:
        """Remove a viewer; an unknown viewer is ignored."""
        self._viewers.pop(viewer, None)

    @abstractmethod
    def _state(self, n_turns: int = 0) -> Message:
        """Whether a session speaks; `n_turns` past turns follow."""

    def _beginning(self, after: int = 0) -> list[Message]:
        """The state of the room, the turns after message number `after`, and the open turn."""
        past = [message for message in (*self._turns.values(), *self._revisions.values()) if message.number > after]
        turns = sorted(past, key=lambda message: message.number)
        # a viewer that is lost before it has the turns comes back with the number of the state
        state = self._state(len(turns))._replace(number=after)
        return [state, *turns, *([self._open_turn] if self._open_turn else ())]

    def _begin(self) -> None:
        """Begin anew for all viewers: what is kept comes as past turns, which do not count as unread."""
        beginning = self._beginning()
        for viewer in self._viewers:
            viewer.begin(beginning)
            self._queue_for_waking(viewer)
        self._wake_behind()

    def _keep(self, kept: dict[int, Message], number: int, message: Message) -> None:
        kept[number] = message
        if len(kept) > HISTORY:
            del kept[next(iter(kept))]

    def _send(self, message: Message) -> None:
        for viewer in self._viewers:
            viewer.put(message)
            self._queue_for_waking(viewer)
        self._wake_behind()

    def _queue_for_waking(self, viewer: Viewer) -> None:
        if not viewer.is_behind:
            viewer.is_behind = True
            self._behind.append(viewer)

    def _wake_behind(self) -> None:
        if self._behind and not self._is_waking:
            self._wake_some()

    def _wake_some(self) -> None:
        for _ in range(min(WAKE_AT_ONCE, len(self._behind))):
            self._behind.popleft().wake()
        self._is_waking = bool(self._behind)
        if self._is_waking:
            asyncio.get_running_loop().call_soon(self._wake_some)
