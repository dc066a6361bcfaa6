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

import enum
import re
from typing import Annotated, Literal, TypeAlias, TypeVar

import msgspec
from msgspec import UNSET, UnsetType

from streamer.errors import ProtocolError
from streamer.events import Caption, Event, TurnEnd
from streamer.options import Delay, EndpointMs, Keyterms, SessionOptions, Task, Text, Update

PROTOCOL = "captions.v1"
"""WebSocket subprotocol, and what `hello` says."""

Encoding = Literal["pcm_s16le", "pcm_f32le", "mulaw", "alaw", "webm_opus"]

_CLOSE_CODES = {
    "bad_audio": 1007,
    "bad_room": 1008,
    "draining": 1012,
    "frame_too_large": 1009,
    "idle": 1000,
    "internal": 1011,
    "no_codecs": 1008,
    "no_microphone": 1008,
    "no_rooms": 1008,
    "overloaded": 1013,
    "room_taken": 1008,
    "unauthorized": 4401,
}


def close_code(code: str) -> int:
    """The WebSocket close code that follows the fatal error `code`; 1002 for a broken protocol."""
    return _CLOSE_CODES.get(code, 1002)


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
    """Base of the messages that speak of the connection; `streamer.events` speak of the audio."""


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


_KINDS: dict[str, type[ClientMessage]] = {"start": Start, "update": Update, "flush": Flush, "end": End}

_ALLOWED = {
    "audio": "an object with encoding, rate and channels",
    "audio.encoding": "pcm_s16le, pcm_f32le, mulaw, alaw or webm_opus",
    "audio.rate": "an integer from 8000 to 48000 (hertz)",
    "audio.channels": "an integer from 1 to 8",
    "resume": "an object with session, token, stable_s and context",
    "resume.stable_s": "a number of seconds from 0",
    "task": "transcribe or translate",
    "resume.session": "text of at most 4096 characters",
    "resume.token": "text of at most 4096 characters",
    "resume.context": "text of at most 4096 characters",
    "prompt": "text of at most 4096 characters",
    "keyterms": "a list of at most 256 texts of at most 128 characters",
    "endpoint_ms": "an integer from 100 to 5000 (milliseconds)",
    "delay": "minimal, low, medium or high",
    "partials": "true or false",
    "words": "true or false",
    "id": "an integer",
}

_Decoded = TypeVar("_Decoded")


def decode_client(text: str) -> ClientMessage:
    """
    Read one text frame of a client.

    Raises:
        ProtocolError: Code `bad_json`, `unknown_type`, `unknown_field` or `bad_value`; the message names
            the field, what was found and what is allowed.
    """
    fields = _decode_json(text, dict[str, msgspec.Raw])
    tag, kind = _kind(fields)
    allowed = kind.__struct_fields__
    for name in fields:
        if name not in allowed and name != "type":
            raise ProtocolError("unknown_field", f'"{tag}" has no field {_shown(name)}; allowed: {_listed(allowed)}')
    try:
        return _decode_json(text, kind)
    except msgspec.ValidationError as error:
        raise ProtocolError("bad_value", f'"{tag}": {_explained(error, fields)}') from None


def _decode_json(text: str, kind: type[_Decoded]) -> _Decoded:
    try:
        return msgspec.json.decode(text, type=kind)
    except msgspec.ValidationError as error:
        if kind in _KINDS.values():
            raise
        raise ProtocolError("bad_json", f"expected a JSON object: {_lowered(error)}") from None
    except (msgspec.DecodeError, RecursionError) as error:
        raise ProtocolError("bad_json", f"text frame is not JSON: {_lowered(error)}") from None


def _kind(fields: dict[str, msgspec.Raw]) -> tuple[str, type[ClientMessage]]:
    found = _value(fields["type"]) if "type" in fields else None
    if not isinstance(found, str) or found not in _KINDS:
        raise ProtocolError("unknown_type", f"type = {_shown(found)}: expected {_listed(_KINDS)}")
    return found, _KINDS[found]


def _explained(error: msgspec.ValidationError, fields: dict[str, msgspec.Raw]) -> str:
    """`endpoint_ms = 50: expected an integer from 100 to 5000 (milliseconds)`."""
    problem, _, place = str(error).partition(" - at `$.")
    path = re.sub(r"\[.*?\]", "", place.rstrip("`"))
    if path not in _ALLOWED:
        return f"{path}: {_lowered(problem)}" if path else _lowered(problem)
    found: object = {name: _value(raw) for name, raw in fields.items()}
    for name in path.split("."):
        found = found[name] if isinstance(found, dict) else found
    return f"{path} = {_shown(found)}: expected {_ALLOWED[path]}"


def _value(raw: msgspec.Raw) -> object:
    return _decode_json(bytes(raw).decode(), object)


def _shown(found: object) -> str:
    # JSON escapes some of what is no character to show; a line end of Unicode would forge a line in somebody's log
    text = msgspec.json.encode(found).decode()
    shown = "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text[:100])
    return shown if len(shown) <= 60 else shown[:60] + "…"


def _listed(names: object) -> str:
    return ", ".join(names) if isinstance(names, dict | tuple) else str(names)


def _lowered(problem: object) -> str:
    text = str(problem).replace("`", "")
    return text[:1].lower() + text[1:]


class State(enum.Enum):
    """Where a connection stands."""

    AWAITING_START = "awaiting_start"
    STREAMING = "streaming"
    ENDING = "ending"
    CLOSED = "closed"


class CaptionsProtocol:
    """
    The server's side of one connection: frames in, messages or a ProtocolError out.

    Args:
        languages: Codes the model knows.
        max_frame_bytes: Largest message taken.
    """

    def __init__(self, languages: tuple[str, ...], max_frame_bytes: int) -> None:
        self.state = State.AWAITING_START
        self._languages = languages
        self._max_frame_bytes = max_frame_bytes

    def receive(self, frame: str | bytes) -> ClientMessage | bytes:
        """
        Take one frame: audio comes back as it is, text as the message it holds.

        Raises:
            ProtocolError: Not legal here; the connection is closed from now on.
        """
        try:
            self._check_size(frame)
            if isinstance(frame, bytes):
                return self._receive_audio(frame)
            return self._receive_message(decode_client(frame))
        except ProtocolError:
            self.close()
            raise

    def close(self) -> None:
        """Nothing is sent or taken any more."""
        self.state = State.CLOSED

    def _check_size(self, frame: str | bytes) -> None:
        if len(frame) > self._max_frame_bytes:
            raise ProtocolError(
                "frame_too_large", f"message of {len(frame)} bytes: expected at most {self._max_frame_bytes}"
            )

    def _receive_audio(self, audio: bytes) -> bytes:
        got = f"got {len(audio)} bytes of audio"
        if self.state is State.AWAITING_START:
            raise ProtocolError("start_required", f'expected "start" before audio, {got}')
        if self.state is not State.STREAMING:
            raise ProtocolError("after_end", f'expected nothing after "end", {got}')
        return audio

    def _receive_message(self, message: ClientMessage) -> ClientMessage:
        got = f'got "{type(message).__struct_config__.tag}"'
        if self.state in (State.ENDING, State.CLOSED):
            raise ProtocolError("after_end", f'expected nothing after "end", {got}')
        if self.state is State.AWAITING_START and not isinstance(message, Start):
            raise ProtocolError("start_required", f'expected "start" first, {got}')
        if self.state is State.STREAMING and isinstance(message, Start):
            raise ProtocolError("already_started", f'{got} twice; "update" changes a running session')
        if isinstance(message, Start | Update):
            self._check_language(message.language)
        self._advance(message)
        return message

    def _check_language(self, language: str | UnsetType | None) -> None:
        if not isinstance(language, str) or language == "auto" or language in self._languages:
            return
        known = ", ".join(self._languages[:12]) + (", …" if len(self._languages) > 12 else "")
        raise ProtocolError("bad_value", f"language = {_shown(language)}: expected auto or one of {known}")

    def _advance(self, message: ClientMessage) -> None:
        if isinstance(message, Start):
            self.state = State.STREAMING
        elif isinstance(message, End):
            self.state = State.ENDING


class Projection:
    """
    The events of one session as its client asked for them: with or without words, with or without partials.

    Captions may be dropped on the way here, by a full queue or by `partials: false`, so `rev` is numbered
    anew: within a turn it rises by one from caption to caption.
    """

    def __init__(self, options: SessionOptions) -> None:
        self._words = options.words
        self._partials = options.partials
        self._last: Caption | None = None

    def project(self, event: Event) -> Event | None:
        """What to send for `event`, None for nothing."""
        if isinstance(event, TurnEnd):
            return event if self._words else msgspec.structs.replace(event, words=UNSET)
        return self._project_caption(event) if isinstance(event, Caption) else event

    def _project_caption(self, caption: Caption) -> Caption | None:
        last = self._last if self._last is not None and self._last.turn == caption.turn else None
        if not self._partials:
            if caption.stable == (last.stable if last is not None else ""):
                return None
            caption = _without_partial(caption)
        if not self._words:
            caption = msgspec.structs.replace(caption, words=UNSET)
        if last is not None:
            caption = msgspec.structs.replace(caption, rev=last.rev + 1)
        self._last = caption
        return caption


def _without_partial(caption: Caption) -> Caption:
    if caption.words is UNSET:
        return msgspec.structs.replace(caption, partial="")
    stable = tuple(word for word in caption.words if word.stable)
    end_s = stable[-1].end_s if stable else caption.end_s
    return msgspec.structs.replace(caption, partial="", words=stable, end_s=end_s)
