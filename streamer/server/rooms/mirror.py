"""The copy of a room that lives in another process, for the viewers of this process."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Literal

import msgspec

from streamer.protocol.messages import RoomState, encode
from streamer.server.rooms.base_room import BaseRoom, Message, Viewer


class RelayedViewer(Viewer):
    """The queue of a process that has a mirror of a room here; it is emptied all at once."""

    def __init__(self, messages: list[Message]) -> None:
        self._begins = True
        super().__init__(messages)
        self.wake()

    def begin(self, messages: list[Message]) -> None:
        """As `Viewer.begin`; the next batch replaces all before it, also of a viewer that was cut."""
        super().begin(messages)
        self._begins = True
        self._cut.clear()

    async def batch(self) -> tuple[bool, tuple[Message, ...]] | None:
        """The messages that wait, once there are some, and whether they begin anew; None once the queue was full."""
        while not self._pending and not self.is_cut:
            self._news.clear()
            await self._news.wait()
        if self.is_cut:
            return None
        taken = self._begins, tuple(self._pending)
        self._begins, self._n_past = False, 0
        self._pending.clear()
        return taken


class _Head(msgspec.Struct, frozen=True):
    """What tells the messages of a room apart."""

    type: Literal["room", "caption", "turn_end", "turn_revised"]
    turn: int = 0
    speaker: int = 0
    live: bool = False


class Mirror(BaseRoom):
    """
    A room that repeats the messages of a room in another process.

    Args:
        room: Name that viewers know.
    """

    def __init__(self, room: str) -> None:
        super().__init__(room, run="")
        self._speaker, self._is_live = 0, False
        self._has_begun = asyncio.Event()

    async def wait_begun(self) -> None:
        """Wait for the first messages."""
        await self._has_begun.wait()

    def take(self, messages: Sequence[Message], *, run: str, begins: bool) -> None:
        """
        Take messages of the room; those before the first beginning were for a mirror before this one.

        Args:
            messages: In their order.
            run: Of the room.
            begins: Whether they replace all that was said before.
        """
        if not begins and not self._has_begun.is_set():
            return
        self.run = run
        if begins:
            self._clear()
        for message in messages:
            self._note(message)
            if not begins:
                self._send(message)
        if begins:
            self._begin()
            self._has_begun.set()

    def _note(self, message: Message) -> None:
        """Keep what viewers get that join later."""
        head = msgspec.json.decode(message.text, type=_Head)
        match head.type:
            case "room":
                if head.speaker != self._speaker:
                    self._clear()
                self._speaker, self._is_live = head.speaker, head.live
            case "caption":
                self._open_turn = message
            case "turn_end":
                self._open_turn = None
                self._keep(self._turns, head.turn, message)
            case "turn_revised":
                self._keep(self._revisions, head.turn, message)

    def _clear(self) -> None:
        self._open_turn = None
        self._turns.clear()
        self._revisions.clear()

    def _state(self, n_turns: int = 0) -> Message:
        state = RoomState(room=self._room, speaker=self._speaker, live=self._is_live, turns=n_turns)
        return Message(0, None, encode(state))
