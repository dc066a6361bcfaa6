"""
The Wyoming protocol of Home Assistant as a projection of `captions.v1`: bytes in, actions and texts out.

One connection carries one utterance: `transcribe`, `audio-start`, `audio-chunk`…, `audio-stop`. During the utterance
stable text is sent as `transcript-start` and `transcript-chunk`, which append. At its end the whole text is sent as
`transcript`, for clients without streaming, then `transcript-stop`. `describe` and `ping` may come at any time.

The protocol has neither keys nor encryption, so it is off unless configured.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import msgspec

from streamer import __version__
from streamer.dialects.actions import Action, Dialect, EndAndClose, HangUp, Open, To
from streamer.dialects.append_only import AppendOnlyText
from streamer.errors import ProtocolError, StreamerError
from streamer.protocol.bounds import Integer, fitting_keyterms
from streamer.protocol.errors import wire_error
from streamer.protocol.events import Caption, Event, Speech, TurnEnd
from streamer.protocol.messages import AudioFormat, Start
from streamer.text.joining import joined
from streamer.text.languages import expected_language, known_language

MAX_LINE_BYTES = 65_536
"""Largest header line, which is what the protocol's own library reads."""
MAX_DATA_BYTES = 131_072
"""Largest data block after it: `transcribe` may bring the names of thousands of devices."""
SAMPLE_BYTES = 2
VERSION = "1.7.1"
"""Version of the protocol, as numbered by its own library."""

_Kind = TypeVar("_Kind")


@dataclass(frozen=True, slots=True)
class WyomingMessage:
    """One message of the protocol."""

    type: str
    data: dict[str, object] = field(default_factory=dict)
    payload: bytes = b""


class _Header(msgspec.Struct, frozen=True):
    type: str
    data: dict[str, object] | None = None
    data_length: Integer | None = None
    payload_length: Integer | None = None


class FrameReader:
    """
    Splits a stream of bytes into messages.

    Args:
        max_payload_bytes: Largest accepted payload.
    """

    def __init__(self, max_payload_bytes: int) -> None:
        self._max_payload_bytes = max_payload_bytes
        self._bytes = b""
        self._header: _Header | None = None

    def receive(self, data: bytes) -> list[WyomingMessage]:
        """
        Return the messages that `data` completes; at most one incomplete message is kept.

        Raises:
            ProtocolError: The data is not a message of this protocol, or the message is too large.
        """
        self._bytes += data
        messages = []
        while (message := self._next()) is not None:
            messages.append(message)
        return messages

    def _next(self) -> WyomingMessage | None:
        while self._header is None:
            line, newline, rest = self._bytes.partition(b"\n")
            if len(line) > MAX_LINE_BYTES:
                raise _too_large("a header", len(line), MAX_LINE_BYTES)
            if not newline:
                return None
            self._bytes = rest
            if not line.strip():
                continue
            self._header = self._checked(_decoded(line, _Header))
        header = self._header
        n_data, n_payload = header.data_length or 0, header.payload_length or 0
        if len(self._bytes) < n_data + n_payload:
            return None
        data, payload = self._bytes[:n_data], self._bytes[n_data : n_data + n_payload]
        self._bytes, self._header = self._bytes[n_data + n_payload :], None
        more = _decoded(data, dict[str, object]) if data else {}
        return WyomingMessage(header.type, {**(header.data or {}), **more}, payload)

    def _checked(self, header: _Header) -> _Header:
        for name, n, most in (
            ("data", header.data_length or 0, MAX_DATA_BYTES),
            ("a payload", header.payload_length or 0, self._max_payload_bytes),
        ):
            if not 0 <= n <= most:
                raise _too_large(name, n, most)
        return header


def encode(kind: str, data: dict[str, object]) -> str:
    """Encode one message as a header line followed by its data, a form that every reader understands."""
    body = msgspec.json.encode(data).decode()
    header = {"type": kind, "version": VERSION, "data_length": len(body.encode())}
    return f"{msgspec.json.encode(header).decode()}\n{body}"


class _Transcribe(msgspec.Struct, frozen=True):
    language: str | None = None
    transcript_names: tuple[str, ...] | None = None
    transcript_terms: tuple[str, ...] | None = None


class _Sound(msgspec.Struct, frozen=True):
    """What Home Assistant sends, where a client says nothing else."""

    rate: Integer = 16_000
    channels: Integer = 1
    width: Integer = SAMPLE_BYTES


class WyomingProtocol(Dialect):
    """
    One connection.

    Args:
        model: Name of the model.
        languages: Language codes of the model.
        max_payload_bytes: Largest accepted chunk of audio.
    """

    def __init__(self, model: str, languages: Sequence[str], max_payload_bytes: int) -> None:
        self._model, self._languages = model, languages
        self._frames = FrameReader(max_payload_bytes)
        self._asked = _Transcribe()
        self._language: str | None = None
        """Code of the language that the client names; None: it names none."""
        self._is_open = self._has_ended = False
        self._growth = AppendOnlyText()
        self._turns: list[str] = []
        self._spoken = ""
        """Language of the last turn; empty before the first."""

    def begin(self) -> list[Action]:
        """Return nothing: the first audio opens the session, since `transcribe` comes before it."""
        return []

    def receive(self, frame: str | bytes) -> list[Action]:
        """Return the actions for bytes that are split anywhere. Never raises."""
        try:
            messages = self._frames.receive(frame if isinstance(frame, bytes) else frame.encode())
            return [action for message in messages for action in self._answer(message)]
        except ProtocolError as error:
            return [*self.fail(error), HangUp(1002, str(error))]

    def project(self, session: int, event: Event) -> list[str]:
        """Return the messages about speech and appended text for an event."""
        match event:
            case Speech(state=state, at_s=at_s):
                return [encode(f"voice-{state}", {"timestamp": round(at_s * 1000)})]
            case Caption(stable=stable):
                return _chunks(self._growth.grow(stable))
            case TurnEnd(text=text, language=language):
                self._turns.append(text)
                self._spoken = language
                return _chunks(self._growth.end_turn(text))
        return []

    def finish(self) -> list[str]:
        """Return the whole text, if a session was open."""
        data: dict[str, object] = {"text": joined(self._turns)}
        if language := self._spoken or self._language:
            data["language"] = language
        return [encode("transcript", data), encode("transcript-stop", {})] if self._is_open else []

    def fail(self, error: StreamerError) -> list[str]:
        """Return the `error` message."""
        return [encode("error", {"text": str(error), "code": wire_error(error).code})]

    # --- from the client

    def _answer(self, message: WyomingMessage) -> list[Action]:
        match message.type:
            case "describe":
                return [encode("info", self._info())]
            case "ping":
                return [encode("pong", {"text": text if isinstance(text := message.data.get("text"), str) else None})]
            case _ if self._has_ended:
                return []  # a connection carries one utterance, and its text is on the way
            case "transcribe":
                self._asked = _converted(message, _Transcribe)
                self._language = self._code_of(self._asked.language)
                return []
            case "audio-start":
                return self._open(message)
            case "audio-chunk" if message.payload:
                opening = [] if self._is_open else self._open(message)
                return [*opening, To(0, message.payload)]
            case "audio-stop":
                return self._end()
        return []  # newer clients may send other messages

    def _open(self, message: WyomingMessage) -> list[Action]:
        if self._is_open:
            raise ProtocolError(
                "already_started", "a connection carries one utterance: open another connection for the next one"
            )
        sound = _converted(message, _Sound)
        if sound.width != SAMPLE_BYTES:
            raise ProtocolError("bad_audio", f"width {sound.width}: expected {SAMPLE_BYTES} bytes a sample")
        try:
            audio = msgspec.convert({"rate": sound.rate, "channels": sound.channels}, AudioFormat)
        except msgspec.ValidationError as error:
            raise ProtocolError("bad_audio", f"rate {sound.rate}, channels {sound.channels}: {error}") from None
        self._is_open = True
        terms = fitting_keyterms((*(self._asked.transcript_names or ()), *(self._asked.transcript_terms or ())))
        start = Start(audio=audio, keyterms=terms, words=False, partials=False)
        if self._language is not None:
            start = msgspec.structs.replace(start, language=self._language)
        return [Open(start), encode("transcript-start", {"language": self._asked.language})]

    def _end(self) -> list[Action]:
        self._has_ended = True
        if self._is_open:
            return [EndAndClose()]
        self._is_open = True  # an utterance without audio
        return [encode("transcript-start", {}), *self.finish(), HangUp(1000)]

    def _code_of(self, tag: str | None) -> str | None:
        """The model's code of a language tag; None where the client names no language."""
        if not tag:
            return None
        code = known_language(tag, self._languages)
        if code is None:
            raise ProtocolError("bad_language", f"language {tag[:20]}: {expected_language(tag, self._languages)}")
        return code

    def _info(self) -> dict[str, object]:
        model = {
            "name": self._model,
            "description": f"Whisper {self._model}",
            "attribution": {"name": "OpenAI", "url": "https://github.com/openai/whisper"},
            "installed": True,
            "version": __version__,
            "languages": list(self._languages),
        }
        program = {
            "name": "streamer",
            "description": "Live captions with Whisper weights",
            "attribution": {"name": "streamer", "url": ""},
            "installed": True,
            "version": __version__,
            "models": [model],
            "supports_transcript_streaming": True,
            "requires_external_vad": False,
        }
        return {"asr": [program]}


def _chunks(text: str) -> list[str]:
    return [encode("transcript-chunk", {"text": text})] if text else []


def _converted(message: WyomingMessage, kind: type[_Kind]) -> _Kind:
    try:
        return msgspec.convert(message.data, kind, strict=False)  # a rate of 16000.0 is welcome
    except msgspec.ValidationError as error:
        raise ProtocolError("bad_value", f"{message.type[:40]}: {error}") from None


def _decoded(data: bytes, kind: type[_Kind]) -> _Kind:
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise ProtocolError("bad_json", f"not a message of the Wyoming protocol: {error}") from None


def _too_large(name: str, n: int, most: int) -> ProtocolError:
    return ProtocolError("frame_too_large", f"{name} of {n} bytes: expected at most {most}")
