"""What a dialect wants done with a client's frame, in the words of `captions.v1`. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, TypeAlias

from streamer.errors import StreamerError
from streamer.protocol.events import Event
from streamer.protocol.messages import Flush, Start
from streamer.protocol.options import Update


@dataclass(frozen=True, slots=True)
class Open:
    """Open sessions, before anything is sent to them; after `EndSessions` open others."""

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


@dataclass(frozen=True, slots=True)
class EndSessions:
    """End every session; the connection stays, and the next `Open` goes on at the same stream time."""


@dataclass(frozen=True, slots=True)
class EndAndClose:
    """End every session; once they have said everything, close the connection with this code and reason."""

    code: int = 1000
    reason: str = ""


Action: TypeAlias = Open | To | EndSessions | EndAndClose | HangUp | str
"""A `str` is a text to send to the client."""


def end_of_idle_client(idle_s: float) -> EndAndClose:
    """The end of a client that sent nothing for `idle_s` seconds, in the dialects that have no rule of their own."""
    return EndAndClose(1011, f"no audio and no message for {idle_s:g} s")


class Dialect(Protocol):
    """One client's side of a foreign protocol: frames in, actions out; native events in, texts out."""

    def begin(self) -> list[Action]:
        """Sessions and texts for before the client's first frame."""

    def receive(self, frame: str | bytes) -> list[Action]:
        """A frame of the client; whatever is in it, it raises nothing."""

    def idle(self, idle_s: float) -> list[Action]:
        """The client sent nothing for `idle_s` seconds."""

    def project(self, session: int, event: Event) -> list[str]:
        """What an event of a session is to the client."""

    def finish(self) -> list[str]:
        """The last texts: every session has said `Bye`."""

    def fail(self, error: StreamerError) -> list[str]:
        """The last texts where something went wrong."""
