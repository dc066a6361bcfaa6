"""
The rooms of the daemon: speakers and viewers enter by name, and the number of viewers is bounded.

`microphone` is the room of the daemon's own microphone. Any other room exists while a session speaks in it or a viewer
waits in it; then its transcript is dropped.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

from streamer.config import Config
from streamer.errors import OverloadError, ProtocolError
from streamer.server.rooms.base_room import Message, V, Viewer
from streamer.server.rooms.room import NOTHING_SAID, Past, Room

MICROPHONE = "microphone"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


class Rooms:
    """
    All rooms by name.

    Args:
        config: `server.rooms` and `limits.max_viewers` are read.
        microphone: The room of the daemon's own microphone; None: it captions no microphone.
    """

    def __init__(self, config: Config, microphone: Room | None = None) -> None:
        self._are_open = config.server.rooms
        self._max_viewers = config.limits.max_viewers
        self._microphone = microphone
        self._rooms: dict[str, Room] = {}
        self._n_viewers = 0

    @property
    def n_viewers(self) -> int:
        """Viewers in all rooms."""
        return self._n_viewers

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the rooms that are kept, without the microphone's."""
        return tuple(self._rooms)

    async def view(self, name: str, last_id: str = "") -> AbstractContextManager[tuple[Room, Viewer]]:
        """As `RoomService.view`."""
        return self.viewing(name, last_id)

    async def speak(self, name: str, session: str, past: Past = NOTHING_SAID) -> AbstractContextManager[Room]:
        """
        As `RoomService.speak`.

        Args:
            name: Of the room.
            session: Name of the session.
            past: What it has said before.
        """
        return self.speaking(name, session, past)

    @contextlib.contextmanager
    def viewing(self, name: str, last_id: str = "") -> Iterator[tuple[Room, Viewer]]:
        """
        Join a room as a viewer for the duration of the block; nobody needs to speak in it yet.

        Args:
            name: Of the room.
            last_id: Id of the last message the viewer has seen, `RUN-NUMBER`; only later messages are sent.

        Raises:
            ProtocolError: Rooms are off, the name is not valid, or the daemon captions no microphone.
            OverloadError: `limits.max_viewers` are in rooms already.
        """
        with self.counted(), self.joined(name, Viewer, last_id) as joined:
            yield joined

    @contextlib.contextmanager
    def counted(self) -> Iterator[None]:
        """
        Count a viewer for the duration of the block.

        Raises:
            OverloadError: `limits.max_viewers` are in rooms already.
        """
        if self._n_viewers >= self._max_viewers:
            raise OverloadError(f"{self._n_viewers} viewers, and no more are allowed", retry_after_s=30.0)
        self._n_viewers += 1
        try:
            yield
        finally:
            self._n_viewers -= 1

    @contextlib.contextmanager
    def joined(self, name: str, make: Callable[[list[Message]], V], last_id: str = "") -> Iterator[tuple[Room, V]]:
        """
        Take the messages of a room for the duration of the block, without counting a viewer.

        Args:
            name: As `viewing`.
            make: Makes the queue of messages.
            last_id: As `viewing`.

        Raises:
            ProtocolError: As `viewing`.
        """
        room = self._find(name)
        viewer = room.join_as(make, number_after(last_id, room.run))
        try:
            yield room, viewer
        finally:
            room.leave(viewer)
            self._forget_if_empty(name, room)

    @contextlib.contextmanager
    def speaking(self, name: str, session: str, past: Past = NOTHING_SAID) -> Iterator[Room]:
        """
        Let a session speak in a room for the duration of the block.

        Args:
            name: Of the room.
            session: Name of the session.
            past: What it has said before, for a room that does not know it.

        Raises:
            ProtocolError: Rooms are off, the name is not valid, or another session speaks there.
        """
        if name == MICROPHONE:
            raise ProtocolError(
                "room_taken", "room microphone belongs to the daemon's own microphone; choose another name"
            )
        room = self._find(name)
        if room.is_live and room.session != session:
            raise ProtocolError("room_taken", f"another session speaks in room {name}; choose another name")
        try:
            with room.speaking(session, past):
                yield room
        finally:
            self._forget_if_empty(name, room)

    def _find(self, name: str) -> Room:
        if name == MICROPHONE:
            if self._microphone is None:
                raise ProtocolError("no_microphone", "this daemon captions no microphone; start it with --mic")
            return self._microphone
        if not self._are_open:
            raise ProtocolError("no_rooms", "this daemon has no rooms; set server.rooms = true")
        if not _NAME.fullmatch(name):
            raise ProtocolError(
                "bad_room",
                f"room = {name[:80]!r}: expected 1 to 64 letters, digits, - and _, beginning with a letter or digit",
            )
        return self._rooms.setdefault(name, Room(name))

    def _forget_if_empty(self, name: str, room: Room) -> None:
        if not room.is_live and not room.n_viewers:
            self._rooms.pop(name, None)


def number_after(last_id: str, run: str) -> int:
    """The message number of an id `RUN-NUMBER`; 0 for an id of another run or of another form."""
    its_run, _, number = last_id.partition("-")
    return int(number) if its_run == run and number.isdecimal() and len(number) < 20 else 0
