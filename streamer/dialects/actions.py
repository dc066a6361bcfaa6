"""The `Dialect` interface, and the actions that a dialect asks of the server for each client frame."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, TypeAlias

from streamer.errors import StreamerError
from streamer.protocol.events import Event
from streamer.protocol.messages import Flush, Start
from streamer.protocol.options import EndpointMs, Update


@dataclass(frozen=True, slots=True)
class Open:
    """Open the sessions of this connection. Comes before any `To`, and again only after `EndSessions`."""

    start: Start
    """Audio format and options of each session."""
    n_sessions: int = 1
    endpoint_ms: EndpointMs | None = None
    """Silence that ends a turn where neither the client nor the configuration names one, in ms; None: turns are
    sentences."""


@dataclass(frozen=True, slots=True)
class To:
    """Send audio or a command to one session, by its index, or to all sessions (None)."""

    session: int | None
    message: bytes | Update | Flush


@dataclass(frozen=True, slots=True)
class HangUp:
    """Close the connection at once, with this code and reason in the WebSocket close frame."""

    code: int
    reason: str = ""


@dataclass(frozen=True, slots=True)
class EndSessions:
    """End every session but keep the connection: the next `Open` continues at the same stream time."""


@dataclass(frozen=True, slots=True)
class EndAndClose:
    """End every session, and close the connection with this code and reason after their last events."""

    code: int = 1000
    reason: str = ""


Action: TypeAlias = Open | To | EndSessions | EndAndClose | HangUp | str
"""A `str` is a text for the client."""


class Dialect(Protocol):
    """
    One connection of a foreign protocol: client frames to actions, session events to texts for the client.

    The server reads no more frames after `EndAndClose` or `HangUp`.
    """

    def begin(self) -> list[Action]:
        """Return the actions before the first frame of the client."""

    def receive(self, frame: str | bytes) -> list[Action]:
        """Return the actions for a frame of the client. Never raises, whatever the frame holds."""

    def idle(self, idle_s: float) -> list[Action]:
        """
        Return the actions for a client that sent nothing for `idle_s` seconds.

        Where a protocol has no rule for it: the sessions end, their tails are delivered, then the connection closes.
        """
        return [EndAndClose(1011, f"no audio and no message for {idle_s:g} s")]

    def project(self, session: int, event: Event) -> list[str]:
        """Return the texts that tell the client of an event of a session, which is named by its index."""

    def finish(self) -> list[str]:
        """Return the last texts, after `Bye` of every session."""

    def fail(self, error: StreamerError) -> list[str]:
        """Return the last texts before the connection closes with an error."""
