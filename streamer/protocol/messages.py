"""
Client and server messages of `captions.v1` as structs, and their encoding as JSON.

`state_machine` decides which client message is legal when, `errors` holds the error codes, and `docs/protocol.md`
describes the protocol for authors of clients.
"""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

import msgspec
from msgspec import UNSET, UnsetType

from streamer.errors import StreamerError
from streamer.protocol.bounds import MAX_PAST_TURNS, Integer, StreamTime, TurnNumber
from streamer.protocol.errors import wire_error
from streamer.protocol.events import Event
from streamer.protocol.options import (
    Delay,
    EndpointMs,
    Keyterms,
    Languages,
    Revise,
    SessionOptions,
    Task,
    Text,
    Update,
    check_keyterms,
)

PROTOCOL = "captions.v1"
"""Name of the WebSocket subprotocol, repeated in `hello`."""

FINAL_CLOSES = (1000, 1001)
"""Close codes of a client that will not resume: normal, and a page that is left. Every other code keeps the session."""
COMES_BACK = 4000
"""Close code of a client that will resume."""

Encoding = Literal["pcm_s16le", "pcm_f32le", "mulaw", "alaw", "container", "opus_packets", "webm_opus"]
SAMPLE_BYTES: dict[Encoding, int] = {"pcm_s16le": 2, "pcm_f32le": 4, "mulaw": 1, "alaw": 1}
"""Bytes of one sample of one channel, for every encoding of plain samples."""


class AudioFormat(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Format of the binary messages of one connection."""

    encoding: Encoding = "pcm_s16le"
    """
    Plain samples, or `container`: recordings from their start, in any container that files may have.

    `opus_packets` is one Opus packet a message, or a container; `webm_opus` is the older name of `container`. For
    these `rate` and `channels` are ignored.
    """
    rate: Annotated[int, msgspec.Meta(ge=8000, le=48000)] = 16000
    """Samples per second of each channel, in hertz."""
    channels: Annotated[int, msgspec.Meta(ge=1, le=8)] = 1
    """Number of interleaved channels, mixed by what sounds: see docs/protocol.md."""


class PastTurn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A turn of a room, as its speaker tells it to a daemon that may not know the session."""

    turn: TurnNumber
    text: Text
    start_s: StreamTime = 0.0
    end_s: StreamTime = 0.0
    language: Annotated[str, msgspec.Meta(max_length=16)] = ""
    open: bool = False
    """Whether the turn goes on if the daemon knows the session, and else ends with this text."""


class Resume(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Part of `start` that continues a session after a lost connection."""

    session: Text
    """`session` of the last `started`, before one of the first `hello`."""
    token: Text
    """Its `resume`."""
    stable_s: StreamTime = 0.0
    """Stream time, in seconds, up to which the client has stable text."""
    context: Text = ""
    """Last stable words that the client has: the prompt of a new session where the daemon does not know the old one."""
    turns: Annotated[tuple[PastTurn, ...], msgspec.Meta(max_length=MAX_PAST_TURNS)] = ()
    """What was said so far, for the viewers of a room that the daemon has forgotten; numbers rise."""
    first_turn: TurnNumber = 0
    """Number among `turns` of the resumed session's own turn 0."""


class Start(msgspec.Struct, frozen=True, kw_only=True, tag="start", forbid_unknown_fields=True):
    """First message of a client. Options left out take the defaults of the daemon."""

    audio: AudioFormat = AudioFormat()
    resume: Resume | None = None
    language: str | UnsetType = UNSET
    languages: Languages | UnsetType = UNSET
    task: Task | UnsetType = UNSET
    prompt: Text | UnsetType = UNSET
    keyterms: Keyterms | UnsetType = UNSET
    endpoint_ms: EndpointMs | UnsetType | None = UNSET
    delay: Delay | UnsetType = UNSET
    partials: bool | UnsetType = UNSET
    words: bool | UnsetType = UNSET
    revise: Revise | UnsetType = UNSET

    def __post_init__(self) -> None:
        """Check the key terms, which no annotation bounds as a whole."""
        check_keyterms(self.keyterms)

    def options(self, defaults: SessionOptions) -> SessionOptions:
        """Return the session options: `defaults` with the fields that this message sets."""
        asked = msgspec.structs.asdict(self)
        given = {name: asked[name] for name in SessionOptions.__struct_fields__ if asked[name] is not UNSET}
        return msgspec.structs.replace(defaults, **given)


class Flush(msgspec.Struct, frozen=True, kw_only=True, tag="flush", forbid_unknown_fields=True):
    """End the open turn after the audio sent so far; the server answers `flushed` with this id."""

    id: Integer


class End(msgspec.Struct, frozen=True, kw_only=True, tag="end", forbid_unknown_fields=True):
    """No more audio follows. The server transcribes the rest and sends `bye`."""


ClientMessage: TypeAlias = Start | Update | Flush | End


class ServerMessage(msgspec.Struct, frozen=True, kw_only=True):
    """Base class of server messages about the connection; those about audio and text are in `events`."""


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Limits of a connection: the largest message, and seconds without a message until the session ends."""

    max_frame_bytes: int
    idle_s: float


class Hello(ServerMessage, frozen=True, kw_only=True, tag="hello"):
    """First message of the server. `session` and `resume` are the id and token of the session that `start` opens."""

    protocol: str = PROTOCOL
    session: str
    resume: str
    model: str
    limits: Limits


class Started(SessionOptions, frozen=True, kw_only=True, tag="started", forbid_unknown_fields=False):
    """Answer to `start`: the effective options, and the id of the session, which is the old one after a resume."""

    session: str
    resume: str
    audio: AudioFormat
    resume_from_s: float
    """Stream time, in seconds, of the sample that the client sends next."""


class Draining(ServerMessage, frozen=True, kw_only=True, tag="draining"):
    """The daemon stops: it ignores further audio and transcribes what it has, for at most `deadline_s` seconds."""

    deadline_s: float


class RoomState(ServerMessage, frozen=True, kw_only=True, tag="room"):
    """To viewers: whether a session speaks in the room. A new `speaker` number means that turns count from 0 again."""

    room: str
    speaker: int
    live: bool
    turns: int = 0
    """Number of past turns and revisions that follow this message, sent to a viewer that has just joined."""


class Error(ServerMessage, frozen=True, kw_only=True, tag="error"):
    """An error. After a fatal one the server closes the connection."""

    code: str
    """A key of `errors.ERROR_CODES`."""
    message: str
    """For people: what was found, what is allowed, the remedy."""
    fatal: bool = True
    retry_after_s: float | UnsetType = UNSET


_encoder = msgspec.json.Encoder()


def encode(message: Event | ServerMessage | Started) -> str:
    """Encode a message as one JSON text frame."""
    return _encoder.encode(message).decode()


def error_message(error: StreamerError) -> Error:
    """Convert an error to the `error` message for a client."""
    told = wire_error(error)
    retry_after_s = UNSET if told.retry_after_s is None else told.retry_after_s
    return Error(code=told.code, message=str(error), retry_after_s=retry_after_s)
