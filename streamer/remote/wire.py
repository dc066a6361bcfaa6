"""
The messages between a gateway and an engine process, and their encoding. Pure.

A gateway holds sessions, an engine process runs steps. A frame is the length of the message (4 bytes, big endian) and
the message in MessagePack. Nothing that is received is ever executed: every field is checked against its type. Fields
that are unknown are ignored, so a newer side may add fields with a default; `VERSION` changes where that is not enough.

Audio crosses once, in float16: the engine process holds the mel frames of a window that it was sent, and a request
carries those from `first` on. An engine process that does not hold the rest answers `needs_all`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal, TypeAlias

import msgspec
import numpy as np
import torch
from torch import Tensor

from streamer.config import Config
from streamer.remote import framing
from streamer.step import StepRequest, StepResult
from streamer.telemetry.metrics import StepTimes

VERSION = 2
MAX_BYTES = 2**26
"""Longest message: a full step of 64 whole windows of 128 bands takes half of it."""
LENGTH = framing.LENGTH


class WireError(Exception):
    """Bytes that are no message of this version."""


FRAMING = framing.Framing(MAX_BYTES, WireError)


class Message(msgspec.Struct, frozen=True, kw_only=True, tag=True, tag_field="type"):
    """Base of all messages."""


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One request of a call."""

    request: StepRequest
    """Its `log_mel` holds the frames that are sent, (n_mels, n_frames - first)."""
    first: int
    """First frame that is sent; those before it were sent with earlier requests of the window."""
    n_frames: int
    """Frames of the whole window."""


# --- from a gateway


class Begin(Message, frozen=True, kw_only=True):
    """The first message on a connection: what to load."""

    version: int
    config: Config
    name: str
    """Of the engine."""
    random_weights: bool = False
    measures: bool = True
    """Whether to measure the cost of a step; an engine that is started again need not."""
    sharing: int = 1
    """Engines that share its device, this one among them."""


class Call(Message, frozen=True, kw_only=True):
    """Requests to be answered together."""

    id: int = 0
    """Given by the link that sends it."""
    fingerprint: str
    """Of the weights that the requests were made for."""
    deadline_s: float
    """Time after which nobody waits for the answer, on the monotonic clock of the engine's machine."""
    most_rows: int
    """Rows of a step at most, with those of other calls."""
    rows: tuple[Row, ...]
    is_timed: bool = False
    """Whether to run the rows by themselves and measure them: they belong to no session."""
    reviser: str = ""
    """Model that runs the rows as second passes, one after another beside the steps; empty: they are steps."""


class Forget(Message, frozen=True, kw_only=True):
    """Sessions that are over."""

    sessions: tuple[str, ...]


class Ping(Message, frozen=True, kw_only=True):
    """Asks for a `Pong`."""

    n_speaking: int = 0
    """Sessions of this gateway that speak, and whose steps the engine runs."""


# --- from an engine


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What a gateway needs to know of a model, without its weights."""

    name: str
    fingerprint: str
    """Of weights, vocabulary and arithmetic: engines with the same one are interchangeable."""
    base_tokens: tuple[bytes, ...]
    """The vocabulary: bytes of each token below the special ones."""
    n_languages: int
    n_mels: int
    """Mel bands."""
    alignment_lag_s: float
    max_batch: int
    """Rows of a step at most."""
    device: str
    dtype: str


class Reviser(msgspec.Struct, frozen=True, kw_only=True):
    """What a gateway needs to know of a model for second passes."""

    name: str
    base_tokens: tuple[bytes, ...]
    n_languages: int
    alignment_lag_s: float


class Ready(Message, frozen=True, kw_only=True):
    """The model is loaded, and one real step has worked."""

    version: int
    facts: Facts
    pid: int
    nice: int
    """Niceness of the process: above that of the gateway, captions come late on a busy machine."""
    fixed_s: float = 0.0
    """Measured cost of a step without its rows, seconds; 0 where nothing was measured."""
    row_s: float = 0.0
    """Measured cost of a row, seconds."""
    costs_key: dict[str, str] = {}
    """What these costs depend on."""
    revisers: tuple[Reviser, ...] = ()
    """Models for second passes, the default one first."""
    clock_s: float = 0.0
    """The engine's monotonic clock, where it has an address; deadlines are told in it."""


class Failed(Message, frozen=True, kw_only=True):
    """The engine cannot start."""

    kind: str
    """Class of the error in `streamer.errors`."""
    message: str


class RowAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Answer to one row: a result, an error, or that the whole window is needed."""

    result: StepResult | None = None
    error: str = ""
    needs_all: bool = False


class Reply(Message, frozen=True, kw_only=True):
    """Answers to a call, in the order of its rows."""

    id: int
    rows: tuple[RowAnswer, ...]
    seconds: float
    """Time of the device for the step that held the last of the rows."""
    n_rows: int
    """Rows of that step, with those of other calls."""
    work_s: float = 0.0
    """Of a timed call or a second pass: CPU time of its thread, where the device is a CPU."""
    times: tuple[StepTimes, ...] = ()
    """Parts of the steps since the last reply, for metrics."""


class Refused(Message, frozen=True, kw_only=True):
    """A call that was not run."""

    id: int
    reason: Literal["late", "fingerprint", "full"]


class Pong(Message, frozen=True, kw_only=True):
    """The engine process is alive."""

    is_alive: bool
    """Whether its device answers."""
    text_bytes: int
    """Keys and values of text, bytes."""
    audio_bytes: int
    """Keys and values of audio, bytes."""
    n_rebuilt: int
    """Times that the engine was built again after its device failed."""
    n_speaking: int = 0
    """Sessions of all other gateways that speak."""
    clock_s: float | None = None
    """The engine's monotonic clock."""
    busy_s: float = 0.0
    """Time of the device for all steps so far."""
    resident_bytes: int = 0
    """Memory of the process; 0: it does not tell."""


FromGateway: TypeAlias = Begin | Call | Forget | Ping
FromEngine: TypeAlias = Ready | Failed | Reply | Refused | Pong


def _encoded(value: object) -> object:
    if isinstance(value, Tensor):
        return value.to(torch.float16).contiguous().numpy().tobytes()
    raise NotImplementedError(f"no message holds a {type(value).__name__}")


def _decoded(expected: type, value: object) -> object:
    if expected is Tensor and isinstance(value, bytes) and len(value) % 2 == 0:
        return torch.from_numpy(np.frombuffer(bytearray(value), np.float16))  # (n_mels * n_sent,)
    raise ValueError(f"expected {expected.__name__}, found {type(value).__name__}")


_ENCODER = msgspec.msgpack.Encoder(enc_hook=_encoded)
_FROM_GATEWAY: msgspec.msgpack.Decoder[FromGateway] = msgspec.msgpack.Decoder(FromGateway, dec_hook=_decoded)
_FROM_ENGINE: msgspec.msgpack.Decoder[FromEngine] = msgspec.msgpack.Decoder(FromEngine, dec_hook=_decoded)


def pack(message: Message) -> bytes:
    """
    The frame of a message.

    Raises:
        WireError: It is longer than `MAX_BYTES`.
    """
    return FRAMING.frame(_ENCODER.encode(message))


def from_gateway(body: bytes) -> FromGateway:
    """
    Decode what a gateway sent.

    Raises:
        WireError: It is no message of a gateway.
    """
    return FRAMING.decode(_FROM_GATEWAY, body, "a gateway")


def from_engine(body: bytes) -> FromEngine:
    """
    Decode what an engine sent.

    Raises:
        WireError: It is no message of an engine.
    """
    return FRAMING.decode(_FROM_ENGINE, body, "an engine")


def row_of(request: StepRequest, first: int) -> Row:
    """The row of a request, whose window is sent from frame `first` on."""
    log_mel = request.log_mel  # (n_mels, n_frames)
    return Row(request=replace(request, log_mel=log_mel[:, first:]), first=first, n_frames=log_mel.shape[1])


def request_of(row: Row, n_mels: int, held: Tensor | None = None) -> StepRequest:
    """
    The request of a row that was received, with its whole window.

    Args:
        row: As decoded.
        n_mels: Mel bands of the model.
        held: Leading frames of the window, (n_mels, n), n >= `row.first`; None: all are sent.

    Raises:
        WireError: The frames sent are not those that the row announces.
    """
    sent, n_sent = row.request.log_mel, row.n_frames - row.first  # (n_mels * n_sent,)
    n_held = held.shape[1] if held is not None else 0
    is_whole = 0 <= row.first <= min(n_held, row.n_frames) and 1 <= row.n_frames <= MAX_BYTES // n_mels
    if not is_whole or sent.shape != (n_mels * n_sent,):
        raise WireError(f"{sent.numel()} values of frames {row.first} to {row.n_frames} of {n_mels} bands")
    log_mel = torch.empty(n_mels, row.n_frames)
    if held is not None:
        log_mel[:, : row.first] = held[:, : row.first]
    log_mel[:, row.first :] = sent.view(n_mels, n_sent)
    return replace(row.request, log_mel=log_mel)
