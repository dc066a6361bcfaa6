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
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import NamedTuple

from msgspec import UNSET, structs

from streamer.protocol.bounds import MAX_PAST_TURNS
from streamer.protocol.events import Caption, Event, TurnEnd, TurnRevised
from streamer.protocol.messages import Resume, RoomState, encode

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


class Past(NamedTuple):
    """What the speaker of a session has said before, as its client tells it."""

    turns: Sequence[TurnEnd] = ()
    """With rising numbers."""
    first: int = 0
    """Number in the room of the session's own turn 0."""


NOTHING_SAID = Past()


def past_of(resume: Resume | None, session: str) -> Past:
    """
    What the client of a session says that was said before.

    Args:
        resume: Of its `start`; None: nothing was said.
        session: Name of the session that it got: the one of `resume`, or a new one that follows on the past turns.
    """
    if resume is None:
        return NOTHING_SAID
    is_known = session == resume.session
    turns = [
        TurnEnd(turn=t.turn, text=t.text, start_s=t.start_s, end_s=t.end_s, language=t.language, reason="limit")
        for t in resume.turns
        if not (t.open and is_known)
    ]
    next_turn = max((turn.turn + 1 for turn in turns), default=0)
    return Past(turns, resume.first_turn if is_known else next_turn)


class Viewer:
    """The queue of one viewer. A caption replaces an older caption of its turn; all other messages are kept."""

    def __init__(self, messages: list[Message]) -> None:
        self._cut = asyncio.Event()
        self.is_behind = False
        """Whether it has messages since it was last woken."""
        self._pending: deque[Message]
        self._n_past: int
        """Messages from before it joined that it has not read."""
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
        """Queue the messages of a joining viewer instead of those that wait; `wake` lets it read."""
        self._pending = deque(messages)
        self._n_past = len(messages)

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
        self._is_waking = False
        """Whether the rest of `_behind` is woken in a later turn of the event loop."""
        self._turns: dict[int, Message] = {}
        """The last turns by their numbers: a session that is resumed says its last ones again."""
        self._revisions: dict[int, Message] = {}
        """The last revisions by the numbers of their turns."""
        self._first = 0
        """Number of the present session's own turn 0."""
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
    def speaking(self, session: str, past: Past = NOTHING_SAID) -> Iterator[None]:
        """
        Let a session speak for the duration of the block; a new session clears the transcript of the one before.

        Two blocks of the same session may overlap: a client resumes before its lost connection is noticed.

        Args:
            session: Name of the session.
            past: Replaces the transcript, where the session is new to the room.
        """
        self._n_speaking += 1
        if session != self.session:
            self.session = session
            self._recall(past)
        else:
            self._send(self._state())
        try:
            yield
        finally:
            self._n_speaking -= 1
            self._send(self._state())

    def publish(self, event: Event) -> None:
        """Queue a caption, or the end or revision of a turn, for every viewer, without words; ignore other events."""
        if not isinstance(event, Caption | TurnEnd | TurnRevised):
            return
        event = structs.replace(event, words=UNSET, turn=self._first + event.turn)
        message = self._message(event)
        if isinstance(event, Caption):
            self._open_turn = message
        else:
            kept = self._revisions if isinstance(event, TurnRevised) else self._turns
            self._open_turn = self._open_turn if isinstance(event, TurnRevised) else None
            if event.turn in kept and kept[event.turn].text == message.text:
                return  # said again after a resume
            self._keep(kept, event.turn, message)
        self._send(message)

    def join(self, after: int = 0) -> Viewer:
        """Add a viewer; its queue holds the last turns after message number `after`, and the open turn."""
        viewer = Viewer(self._beginning(after))
        self._viewers[viewer] = None
        return viewer

    def leave(self, viewer: Viewer) -> None:
        """Remove a viewer; an unknown viewer is ignored."""
        self._viewers.pop(viewer, None)

    def _beginning(self, after: int = 0) -> list[Message]:
        """The state of the room, the turns after message number `after`, and the open turn."""
        past = [message for message in (*self._turns.values(), *self._revisions.values()) if message.number > after]
        turns = sorted(past, key=lambda message: message.number)
        # a viewer that is lost before it has the turns comes back with the number of the state
        state = self._state(len(turns))._replace(number=after)
        return [state, *turns, *([self._open_turn] if self._open_turn else ())]

    def _recall(self, past: Past) -> None:
        """Begin the transcript of a new speaker, with what it has said before."""
        self._speaker, self._open_turn, self._first = self._speaker + 1, None, past.first
        self._turns.clear()
        self._revisions.clear()
        for turn in past.turns[-HISTORY:]:
            self._keep(self._turns, turn.turn, self._message(turn))
        if not past.turns:
            self._send(self._state())
            return
        beginning = self._beginning()
        for viewer in self._viewers:  # as past turns, which do not count as unread
            viewer.begin(beginning)
            self._queue_for_waking(viewer)
        self._wake_behind()

    def _keep(self, kept: dict[int, Message], number: int, message: Message) -> None:
        kept[number] = message
        if len(kept) > HISTORY:
            del kept[next(iter(kept))]

    def _state(self, n_turns: int = 0) -> Message:
        return self._message(RoomState(room=self._room, speaker=self._speaker, live=self.is_live, turns=n_turns))

    def _message(self, event: Event | RoomState) -> Message:
        return Message(next(self._numbers), event.turn if isinstance(event, Caption) else None, encode(event))

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
