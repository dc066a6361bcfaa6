"""
The messages between a gateway process and the hub in its parent, and their encoding. Pure.

A frame is the length of the message (4 bytes, big endian) and the message in MessagePack. Every field is checked
against its type, and nothing that is received is ever executed. Parent and gateways are of one installation, but a
rolling replacement may bring gateways of the next version: fields that are unknown are ignored, new ones have defaults,
and `VERSION` changes where that is not enough.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, TypeAlias

import msgspec

from streamer.access.limiter import Refused
from streamer.config import Config
from streamer.dialects.openai.keys import ClientSecret
from streamer.protocol.events import Caption, TurnEnd, TurnRevised
from streamer.remote import framing
from streamer.remote.joined import Address
from streamer.remote.wire import Ready
from streamer.server.state import Overview
from streamer.telemetry.families import Family

VERSION = 1
MAX_BYTES = 2**25
"""Longest message: `Begin` holds a vocabulary, a report the sessions and metrics of a gateway."""
LENGTH = framing.LENGTH


class HubWireError(Exception):
    """Bytes that are no message of this version."""


FRAMING = framing.Framing(MAX_BYTES, HubWireError)


class Message(msgspec.Struct, frozen=True, kw_only=True, tag=True, tag_field="type"):
    """Base of all messages."""


class Ask(Message, frozen=True, kw_only=True):
    """Base of the messages of a gateway that get an `Answer`."""

    id: int = 0
    """Given by who sends it."""


# --- from a gateway: its state


class Serving(Message, frozen=True, kw_only=True):
    """It accepts connections from now on."""

    version: int
    pid: int


class Failed(Message, frozen=True, kw_only=True):
    """It cannot start."""

    kind: str
    """Class of the error in `streamer.errors`."""
    message: str


class Alive(Message, frozen=True, kw_only=True):
    """Its event loop turns, and its engines answer or will."""


class State(Ask, frozen=True, kw_only=True):
    """Asks for the state of all gateways."""


# --- from a gateway: places of sessions


class Take(Ask, frozen=True, kw_only=True):
    """Asks for a place; answered without anything once it has it."""

    place: int
    """Its name for the place."""
    session: str
    caller: str
    """Name of the API key, or empty."""
    capacity: int
    """Places of all gateways, as this one has measured them."""
    resumed: tuple[str, str] | None = None
    """Name and secret of the session that it goes on with."""
    token: str = ""
    """Secret of the session, with which its client may go on elsewhere; empty: it may not."""


class Weigh(Message, frozen=True, kw_only=True):
    """What a session takes from now on; 0 gives the place back, also one that is not granted yet."""

    place: int
    weight: float


# --- from a gateway: connections and requests


class Enter(Ask, frozen=True, kw_only=True):
    """Asks as `Limiter.enter`."""

    entry: int
    """Its name for the WebSocket."""
    owner: str
    is_socket: bool
    may_have_all: bool


class Leave(Message, frozen=True, kw_only=True):
    """A WebSocket is closed, also one that has not come in."""

    entry: int


class Request(Ask, frozen=True, kw_only=True):
    """Asks as `Limiter.request`."""

    owner: str


# --- from a gateway: rooms


class Watch(Ask, frozen=True, kw_only=True):
    """A viewer joins a room."""

    viewer: int
    """Its name for the viewer."""
    room: str


class Unwatch(Message, frozen=True, kw_only=True):
    """A viewer is gone, also one that has not joined yet."""

    viewer: int


class Speak(Ask, frozen=True, kw_only=True):
    """A session speaks in a room."""

    speaker: int
    """Its name for the speaker."""
    room: str
    session: str
    past: tuple[TurnEnd, ...] = ()
    first: int = 0
    """As `Past.first`."""


class Hush(Message, frozen=True, kw_only=True):
    """A speaker is gone, also one that does not speak yet."""

    speaker: int


class Publish(Message, frozen=True, kw_only=True):
    """What a speaker says."""

    speaker: int
    event: Caption | TurnEnd | TurnRevised


# --- from a gateway: client secrets


class Keep(Ask, frozen=True, kw_only=True):
    """Asks to keep a client secret."""

    secret: ClientSecret


class Find(Ask, frozen=True, kw_only=True):
    """Asks for a client secret."""

    value: str


# --- from a gateway: answers to the hub


class Report(Message, frozen=True, kw_only=True):
    """Answer to `Tell`."""

    id: int
    overview: Overview
    families: tuple[Family, ...]


class Done(Message, frozen=True, kw_only=True):
    """Answer to `MakeRoom`: whether there was such a session."""

    id: int
    is_done: bool


# --- from the hub


class Begin(Message, frozen=True, kw_only=True):
    """The first message to a gateway: what to serve."""

    version: int
    config: Config
    index: int
    ready: tuple[Ready, ...]
    """What the engines have told."""
    engines: tuple[Address, ...]
    sockets: tuple[int, ...]
    """Descriptors of the listening sockets of HTTP."""
    wyoming: int | None = None
    """Descriptor of the listening socket of the Wyoming protocol."""


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """An error of the hub for a client."""

    kind: Literal["overload", "protocol"]
    message: str
    code: str = ""
    retry_after_s: float = 0.0


class Answer(Message, frozen=True, kw_only=True):
    """Answer to an `Ask`, with what it asks for or an error."""

    id: int
    failure: Failure | None = None
    refused: Refused | None = None
    wait_s: float = 0.0
    secret: ClientSecret | None = None
    run: str = ""
    """Of the room."""
    overview: Overview | None = None
    metrics: bytes = b""


class Tell(Message, frozen=True, kw_only=True):
    """Asks a gateway for its report."""

    id: int = 0


class GiveUp(Message, frozen=True, kw_only=True):
    """The client of a session goes on elsewhere: end it."""

    session: str
    token: str


class MakeRoom(Message, frozen=True, kw_only=True):
    """Asks a gateway to end a session that never had sound."""

    id: int = 0
    caller: str
    """Whose; empty: anybody's."""
    is_greedy: bool = False
    """Whether the place is for a caller who has fewer."""


class Said(msgspec.Struct, frozen=True, kw_only=True):
    """A message of a room."""

    number: int
    turn: int | None
    text: str


class RoomSays(Message, frozen=True, kw_only=True):
    """Messages of a room that viewers of this gateway watch."""

    room: str
    run: str
    begins: bool
    """Whether they replace all that was said before."""
    messages: tuple[Said, ...]


class Reload(Message, frozen=True, kw_only=True):
    """Read keys and certificate again."""


class Stop(Message, frozen=True, kw_only=True):
    """Accept no more connections, drain, and end."""

    is_replaced: bool = False
    """Whether another gateway takes its place."""


FromGateway: TypeAlias = (
    Serving
    | Failed
    | Alive
    | State
    | Take
    | Weigh
    | Enter
    | Leave
    | Request
    | Watch
    | Unwatch
    | Speak
    | Hush
    | Publish
    | Keep
    | Find
    | Report
    | Done
)
FromHub: TypeAlias = Begin | Answer | Tell | GiveUp | MakeRoom | RoomSays | Reload | Stop


def _encoded(value: object) -> object:
    if isinstance(value, Path):
        return str(value)
    raise NotImplementedError(f"no message holds a {type(value).__name__}")


def _decoded(expected: type, value: object) -> object:
    if expected is Path and isinstance(value, str):
        return Path(value)
    raise ValueError(f"expected {expected.__name__}, found {type(value).__name__}")


_ENCODER = msgspec.msgpack.Encoder(enc_hook=_encoded)
_FROM_GATEWAY: msgspec.msgpack.Decoder[FromGateway] = msgspec.msgpack.Decoder(FromGateway, dec_hook=_decoded)
_FROM_HUB: msgspec.msgpack.Decoder[FromHub] = msgspec.msgpack.Decoder(FromHub, dec_hook=_decoded)


def pack(message: Message) -> bytes:
    """
    The frame of a message.

    Raises:
        HubWireError: It is longer than `MAX_BYTES`.
    """
    return FRAMING.frame(_ENCODER.encode(message))


def from_gateway(body: bytes) -> FromGateway:
    """
    Decode what a gateway sent.

    Raises:
        HubWireError: It is no message of a gateway.
    """
    return FRAMING.decode(_FROM_GATEWAY, body, "a gateway")


def from_hub(body: bytes) -> FromHub:
    """
    Decode what the hub sent.

    Raises:
        HubWireError: It is no message of the hub.
    """
    return FRAMING.decode(_FROM_HUB, body, "the hub")
