"""
Which rooms there are: who speaks in them, who watches, and how many may.

`microphone` is the box's own. Others are there as long as a session speaks or somebody waits in them; then all that
was said in them is forgotten.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

from streamer.config import Config
from streamer.errors import OverloadError, ProtocolError
from streamer.server.rooms.room import Room, Viewer

MICROPHONE = "microphone"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


class Rooms:
    """
    Args:
        config: `server.rooms` and `limits.max_viewers` are read.
        microphone: The room of the box's own microphone; None if it captions none.
    """

    def __init__(self, config: Config, microphone: Room | None = None) -> None:
        self._are_open = config.server.rooms
        self._max_viewers = config.limits.max_viewers
        self._microphone = microphone
        self._rooms: dict[str, Room] = {}
        self._n_viewers = 0

    @property
    def n_viewers(self) -> int:
        """Viewers of all rooms."""
        return self._n_viewers

    @contextlib.contextmanager
    def viewing(self, name: str, last_id: str = "") -> Iterator[tuple[Room, Viewer]]:
        """
        Join a room for the length of a block; it may be silent still.

        Args:
            name: Of the room.
            last_id: What the viewer saw last, `RUN-NUMBER`, to be told only what came after.

        Raises:
            ProtocolError: There is no such room here.
            OverloadError: As many viewers as are allowed.
        """
        room = self._find(name)
        if self._n_viewers >= self._max_viewers:
            raise OverloadError(f"{self._n_viewers} viewers, and no more are allowed", retry_after_s=30.0)
        viewer = room.join(_number(last_id, room))
        self._n_viewers += 1
        try:
            yield room, viewer
        finally:
            self._n_viewers -= 1
            room.leave(viewer)
            self._forget_if_empty(name, room)

    @contextlib.contextmanager
    def speaking(self, name: str, session: str) -> Iterator[Room]:
        """
        Let a session speak in a room for the length of a block.

        Raises:
            ProtocolError: Rooms are off, the name is none, or somebody speaks there.
        """
        if name == MICROPHONE:
            raise ProtocolError("room_taken", "room microphone is that of the daemon's own microphone")
        room = self._find(name)
        if room.is_live and room.session != session:
            raise ProtocolError("room_taken", f"somebody else speaks in room {name}; choose another name")
        try:
            with room.speaking(session):
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
            raise ProtocolError("bad_room", "room: expected 1 to 64 letters, digits, - and _, no - or _ first")
        return self._rooms.setdefault(name, Room(name))

    def _forget_if_empty(self, name: str, room: Room) -> None:
        if not room.is_live and not room.n_viewers:
            self._rooms.pop(name, None)


def _number(last_id: str, room: Room) -> int:
    """The number in an id of this run of the room, else 0."""
    run, _, number = last_id.partition("-")
    return int(number) if run == room.run and number.isdecimal() and len(number) < 20 else 0
