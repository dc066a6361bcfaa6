"""
State machine of one `captions.v1` connection on the server: frames in, validated messages or a ProtocolError out.

    awaiting_start --start--> streaming --end--> ending
          any state --protocol error, or the connection is done--> closed

In `streaming`, audio, `update` and `flush` are legal in any order. The order of the server's messages is in `events`.
"""

from __future__ import annotations

import enum
import re
from typing import TypeVar

import msgspec

from streamer.errors import ProtocolError
from streamer.protocol.bounds import MAX_KEYTERM_CHARS, MAX_KEYTERMS, MAX_STREAM_S
from streamer.protocol.messages import ClientMessage, End, Flush, Start
from streamer.protocol.options import Update
from streamer.text.languages import expected_language, known_language

_KINDS: dict[str, type[ClientMessage]] = {"start": Start, "update": Update, "flush": Flush, "end": End}

_ALLOWED = {
    "audio": "an object with encoding, rate and channels",
    "audio.encoding": "pcm_s16le, pcm_f32le, container, opus_packets, mulaw, alaw or webm_opus",
    "audio.rate": "an integer from 8000 to 48000 (hertz)",
    "audio.channels": "an integer from 1 to 8",
    "resume": "an object with session, token, stable_s and context",
    "resume.stable_s": f"a number of seconds from 0 to {MAX_STREAM_S:.0f}",
    "task": "transcribe or translate",
    "resume.session": "text of at most 4096 characters",
    "resume.token": "text of at most 4096 characters",
    "resume.context": "text of at most 4096 characters",
    "prompt": "text of at most 4096 characters",
    "keyterms": f"a list of at most {MAX_KEYTERMS} texts of at most {MAX_KEYTERM_CHARS} characters",
    "endpoint_ms": "an integer from 100 to 5000 (milliseconds)",
    "delay": "minimal, low, medium or high",
    "partials": "true or false",
    "words": "true or false",
    "languages": "a list of at most 128 language codes, tags or names",
    "revise": "true, false or the name of a model",
    "id": "an integer of at most 64 bits",
}

_Decoded = TypeVar("_Decoded")


def decode_client(text: str) -> ClientMessage:
    """
    Decode one text frame of a client.

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
    """Describe a wrong value: `endpoint_ms = 50: expected an integer from 100 to 5000 (milliseconds)`."""
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
    # JSON leaves some unprintable characters as they are; a Unicode line separator would forge a line in a log
    text = msgspec.json.encode(found).decode()
    shown = "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text[:100])
    return shown if len(shown) <= 60 else shown[:60] + "…"


def _listed(names: object) -> str:
    return ", ".join(names) if isinstance(names, dict | tuple) else str(names)


def _lowered(problem: object) -> str:
    text = str(problem).replace("`", "")
    return text[:1].lower() + text[1:]


class State(enum.Enum):
    """State of a connection."""

    AWAITING_START = "awaiting_start"
    STREAMING = "streaming"
    ENDING = "ending"
    CLOSED = "closed"


class CaptionsProtocol:
    """
    State machine of one connection, on the server.

    Args:
        languages: Language codes of the model.
        max_frame_bytes: Largest accepted message, in bytes of audio or characters of text.
        revisers: Names of the models that `revise` may choose.
    """

    def __init__(self, languages: tuple[str, ...], max_frame_bytes: int, revisers: tuple[str, ...] = ()) -> None:
        self.state = State.AWAITING_START
        self._languages, self._revisers = languages, revisers
        self._max_frame_bytes = max_frame_bytes

    def receive(self, frame: str | bytes) -> ClientMessage | bytes:
        """
        Validate one frame and advance the state.

        Returns:
            Audio bytes unchanged, or the message that a text frame holds.

        Raises:
            ProtocolError: The frame is not legal in this state; the state is `CLOSED` now.
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
        """Set the state to `CLOSED`: every later frame is refused."""
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
            message = self._with_known_languages(message)
            self._check_reviser(message.revise)
        self._advance(message)
        return message

    def _with_known_languages(self, message: Start | Update) -> Start | Update:
        """The message with the model's codes in place of language tags and names."""
        changes: dict[str, object] = {}
        if isinstance(message.language, str):
            changes["language"] = self._code("language", message.language)
        if isinstance(message.languages, tuple):
            codes = [self._code("languages", tag) for tag in message.languages]
            changes["languages"] = tuple(dict.fromkeys(code for code in codes if code != "auto"))
        return msgspec.structs.replace(message, **changes)

    def _code(self, field: str, tag: str) -> str:
        code = known_language(tag, self._languages)
        if code is None:
            raise ProtocolError("bad_value", f"{field} = {_shown(tag)}: {expected_language(tag, self._languages)}")
        return code

    def _check_reviser(self, asked: object) -> None:
        if isinstance(asked, str) and asked not in self._revisers:
            loaded = ", ".join(self._revisers)
            raise ProtocolError(
                "bad_value", f"revise = {_shown(asked)}: expected true, false or a loaded model: {loaded}"
            )

    def _advance(self, message: ClientMessage) -> None:
        if isinstance(message, Start):
            self.state = State.STREAMING
        elif isinstance(message, End):
            self.state = State.ENDING
