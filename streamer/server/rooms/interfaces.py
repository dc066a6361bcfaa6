"""What connections need of the rooms of the daemon, as protocols; `rooms` implements them in one process."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Protocol

from streamer.protocol.events import Event
from streamer.server.rooms.base_room import Viewer
from streamer.server.rooms.room import NOTHING_SAID, Past


class Publisher(Protocol):
    """A room, for the session that speaks in it."""

    def publish(self, event: Event) -> None:
        """Show an event to all viewers."""


class WatchedRoom(Protocol):
    """A room, for those who watch it."""

    @property
    def run(self) -> str:
        """Distinguishes the message numbers of this room from those of another one of its name."""


class RoomService(Protocol):
    """The rooms."""

    async def view(self, name: str, last_id: str = "") -> AbstractContextManager[tuple[WatchedRoom, Viewer]]:
        """
        Join a room as a viewer for the duration of the block that is returned, and is to be entered at once.

        Args:
            name: Of the room.
            last_id: Id of the last message the viewer has seen; only later messages are sent.

        Raises:
            ProtocolError: There is no such room. It may be raised at the beginning of the block.
            OverloadError: No more viewers are allowed. It may be raised at the beginning of the block.
        """
        ...

    async def speak(self, name: str, session: str, past: Past = NOTHING_SAID) -> AbstractContextManager[Publisher]:
        """
        Let a session speak in a room for the duration of the block that is returned, and is to be entered at once.

        Args:
            name: Of the room.
            session: Name of the session.
            past: What it has said before.

        Raises:
            ProtocolError: There is no such room, or another session speaks there. It may be raised at the beginning of
                the block.
        """
        ...
