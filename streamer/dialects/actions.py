"""What a dialect wants done with a client's frame, in the words of `captions.v1`. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, TypeAlias

from streamer.errors import StreamerError
from streamer.protocol.events import Event
from streamer.protocol.messages import End, Flush, Start
from streamer.protocol.options import Update


@dataclass(frozen=True, slots=True)
class Open:
    """Open sessions; comes once, before anything is sent to them."""

    start: Start
    """Format of the audio that each of them gets, and its options."""
    n_sessions: int = 1


@dataclass(frozen=True, slots=True)
class To:
    """Something for one session, or for all of them (None)."""

    session: int | None
    message: bytes | Update | Flush


@dataclass(frozen=True, slots=True)
class HangUp:
    """Close the connection at once, with this code and reason in the WebSocket close frame."""

    code: int
    reason: str = ""


Action: TypeAlias = Open | To | End | HangUp | str
"""`End`: no more audio comes to any session. A text is sent to the client."""


class Dialect(Protocol):
    """One client's side of a foreign protocol: frames in, actions out; native events in, texts out."""

    def begin(self) -> list[Action]:
        """Before the client has said anything. Raises ProtocolError."""

    def receive(self, frame: str | bytes) -> list[Action]:
        """A frame of the client; whatever is in it, it raises nothing."""

    def project(self, session: int, event: Event) -> list[str]:
        """What an event of a session is to the client."""

    def finish(self) -> list[str]:
        """The last texts: every session has said `Bye`."""

    def fail(self, error: StreamerError) -> list[str]:
        """The last texts where something went wrong."""
