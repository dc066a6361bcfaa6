"""OpenAI's Realtime API as a `Dialect`: server events as texts, messages to native sessions as actions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from streamer.dialects.actions import Action, Dialect, EndSessions, HangUp, Open, To
from streamer.dialects.openai.realtime import Output, RealtimeProtocol, ServerEvent
from streamer.errors import StreamerError
from streamer.protocol.events import Event
from streamer.protocol.messages import End, Start


class RealtimeDialect(Dialect):
    """
    One client of the Realtime API, with at most one native session at a time.

    The native session opens with the first audio and ends when the client is silent, so a client that only waits
    occupies no session; push to talk may wait for long.
    """

    def __init__(self, protocol: RealtimeProtocol) -> None:
        self._protocol = protocol

    def begin(self) -> list[Action]:
        """Return `session.created`."""
        return _actions(self._protocol.open())

    def receive(self, frame: str | bytes) -> list[Action]:
        """Return the actions for one client event. Never raises: a wrong event is answered with `error`."""
        return _actions(self._protocol.receive(frame))

    def idle(self, idle_s: float) -> list[Action]:
        """End the native session, if one is open; the connection stays."""
        return _actions(self._protocol.rest())

    def project(self, session: int, event: Event) -> list[str]:
        """Return the server events for one session event."""
        return _texts(self._protocol.project(event))

    def finish(self) -> list[str]:
        """Return nothing: `Bye` has completed every item."""
        return []

    def fail(self, error: StreamerError) -> list[str]:
        """Return the failure of every item without a transcript, and an `error` event."""
        return _texts(self._protocol.fail(error))


def _actions(outputs: Sequence[Output]) -> list[Action]:
    # server events first: they do not wait for room in the backlog of the native session
    texts = _texts(output for output in outputs if isinstance(output, dict))
    return [*texts, *(_action(output) for output in outputs if not isinstance(output, dict))]


def _action(output: Output) -> Action:
    match output:
        case Start():
            return Open(output)
        case End():
            return EndSessions()
        case HangUp():
            return output
    assert not isinstance(output, dict)
    return To(0, output)


def _texts(events: Iterable[ServerEvent]) -> list[str]:
    return [msgspec.json.encode(event).decode() for event in events]
