"""
The messages of `captions.v1`, and which of them is legal when. No socket, no clock, no task.

    awaiting_start --start--> streaming --end--> ending
          any of them --protocol error, or the connection is done--> closed

A fatal error message comes before every close but 1000 and 1012. What a client can expect to be closed with:

    1000  after `bye`, also when the session was ended for silence on the wire (code `idle`)
    1002  the client broke the protocol
    1007  audio that is not what was announced (`bad_audio`)
    1009  a message above `max_frame_bytes` (`frame_too_large`)
    1011  a fault of the daemon (`internal`)
    1012  the daemon is draining: come back and resume
    1008  not allowed here: a room that is not there, or is taken (`bad_room`, `no_rooms`, `room_taken`, …)
    1013  no capacity left (`overloaded`): come back after `retry_after_s`
    4401  no API key, or one that is unknown or expired (`unauthorized`); programs get HTTP 401 instead
"""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

import msgspec
from msgspec import UNSET, UnsetType

from streamer.errors import StreamerError
from streamer.protocol.errors import wire_error
from streamer.protocol.events import Event
from streamer.protocol.options import Delay, EndpointMs, Keyterms, SessionOptions, Task, Text, Update

PROTOCOL = "captions.v1"
"""WebSocket subprotocol, and what `hello` says."""

Encoding = Literal["pcm_s16le", "pcm_f32le", "mulaw", "alaw", "webm_opus"]


class AudioFormat(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the binary messages of one connection hold."""

    encoding: Encoding = "pcm_s16le"
    """Of `webm_opus`, a browser's recording from its start, `rate` and `channels` are not looked at."""
    rate: Annotated[int, msgspec.Meta(ge=8000, le=48000)] = 16000
    """Samples per second of one channel."""
    channels: Annotated[int, msgspec.Meta(ge=1, le=8)] = 1
    """Interleaved; their mean is transcribed."""


class Resume(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a client that lost its connection names its session."""

    session: Text
    token: Text
    stable_s: Annotated[float, msgspec.Meta(ge=0)] = 0.0
    """Stream time up to which the client holds stable text."""
    context: Text = ""
    """Last words the client holds, for a daemon that does not know the session."""


class Start(msgspec.Struct, frozen=True, kw_only=True, tag="start"):
    """First message of a client. Options left out take the daemon's defaults."""

    audio: AudioFormat = AudioFormat()
    resume: Resume | None = None
    language: str | UnsetType = UNSET
    task: Task | UnsetType = UNSET
    prompt: Text | UnsetType = UNSET
    keyterms: Keyterms | UnsetType = UNSET
    endpoint_ms: EndpointMs | UnsetType = UNSET
    delay: Delay | UnsetType = UNSET
    partials: bool | UnsetType = UNSET
    words: bool | UnsetType = UNSET

    def options(self, defaults: SessionOptions) -> SessionOptions:
        """The session options asked for, over `defaults`."""
        asked = msgspec.structs.asdict(self)
        given = {name: asked[name] for name in SessionOptions.__struct_fields__ if asked[name] is not UNSET}
        return msgspec.structs.replace(defaults, **given)


class Flush(msgspec.Struct, frozen=True, kw_only=True, tag="flush"):
    """Ask for `flushed` with this id once everything sent so far is final."""

    id: int


class End(msgspec.Struct, frozen=True, kw_only=True, tag="end"):
    """No more audio comes; the tail is transcribed, then `bye`."""


ClientMessage: TypeAlias = Start | Update | Flush | End


class ServerMessage(msgspec.Struct, frozen=True, kw_only=True):
    """Base of the messages that speak of the connection; `streamer.protocol.events` speak of the audio."""


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What the daemon puts up with."""

    max_frame_bytes: int
    idle_s: float


class Hello(ServerMessage, frozen=True, kw_only=True, tag="hello"):
    """First message of the daemon; `session` and `resume` are what a `Resume` names later."""

    protocol: str = PROTOCOL
    session: str
    resume: str
    model: str
    limits: Limits


class Started(SessionOptions, frozen=True, kw_only=True, tag="started"):
    """The effective settings. `session` differs from that of `hello` where a known one goes on."""

    session: str
    resume: str
    audio: AudioFormat
    resume_from_s: float
    """Stream time of the first sample that is expected next."""


class Draining(ServerMessage, frozen=True, kw_only=True, tag="draining"):
    """The daemon is about to stop: audio is no longer taken, what has come is transcribed."""

    deadline_s: float


class RoomState(ServerMessage, frozen=True, kw_only=True, tag="room"):
    """To the viewers of a room: whether somebody speaks. With another `speaker`, turns are numbered from 0 again."""

    room: str
    speaker: int
    live: bool
    turns: int = 0
    """Past turns that follow, for who has just come."""


class Error(ServerMessage, frozen=True, kw_only=True, tag="error"):
    """Something went wrong; after a fatal one the connection ends."""

    code: str
    message: str
    fatal: bool = True
    retry_after_s: float | UnsetType = UNSET


_encoder = msgspec.json.Encoder()


def encode(message: Event | ServerMessage | Started) -> str:
    """One JSON text frame."""
    return _encoder.encode(message).decode()


def error_message(error: StreamerError) -> Error:
    """The `error` message that tells a client of an error."""
    told = wire_error(error)
    retry_after_s = UNSET if told.retry_after_s is None else told.retry_after_s
    return Error(code=told.code, message=str(error), retry_after_s=retry_after_s)
