"""Client events of OpenAI's Realtime API for transcription sessions."""

from __future__ import annotations

import binascii

from msgspec import Raw, Struct

from streamer.dialects.openai.errors import RequestError
from streamer.dialects.openai.session import decode
from streamer.protocol.messages import SAMPLE_BYTES, Encoding


class ClientEvent(Struct, frozen=True, kw_only=True):
    """Base class of client events; an error names the id of the event that caused it."""

    event_id: str | None = None


class SessionUpdateEvent(ClientEvent, frozen=True, kw_only=True):
    """`session.update` and its beta form, which decides how `session` is decoded."""

    session: Raw


class AudioAppendEvent(ClientEvent, frozen=True, kw_only=True):
    """`input_audio_buffer.append`."""

    audio: str
    """Audio in base64."""


class Envelope(ClientEvent, frozen=True, kw_only=True):
    """The fields that every event has."""

    type: str


KINDS: dict[str, type[ClientEvent]] = {
    "session.update": SessionUpdateEvent,
    "transcription_session.update": SessionUpdateEvent,
    "input_audio_buffer.append": AudioAppendEvent,
    "input_audio_buffer.commit": ClientEvent,
    "input_audio_buffer.clear": ClientEvent,
}
"""Accepted events by their type."""


def read_envelope(frame: str | bytes, max_frame_bytes: int) -> Envelope:
    """
    Decode type and id of a message.

    Raises:
        RequestError: The message is binary, too long, or not an event.
    """
    if isinstance(frame, bytes):
        raise RequestError("invalid_value", "a binary message: audio goes into input_audio_buffer.append as base64")
    if len(frame) > max_frame_bytes:
        allowed = f"expected at most {max_frame_bytes}; append audio in several events"
        raise RequestError("event_too_large", f"event of {len(frame)} bytes: {allowed}")
    return decode(frame, Envelope)


def read_event(type_: str, frame: str | bytes) -> ClientEvent:
    """
    Decode an event of a type.

    Raises:
        RequestError: The type is unknown, or a field is wrong.
    """
    if type_ not in KINDS:
        raise RequestError("invalid_value", f'type = "{type_[:60]}": expected one of {", ".join(KINDS)}', "type")
    return decode(frame, KINDS[type_])


def read_audio(text: str, encoding: Encoding, rate: int) -> tuple[bytes, float]:
    """
    Decode base64 audio.

    Args:
        text: Audio in base64.
        encoding: Encoding of plain samples.
        rate: Samples per second, in hertz.

    Returns:
        The bytes and their duration in seconds.

    Raises:
        RequestError: The text is not base64.
    """
    try:
        data = binascii.a2b_base64(text, strict_mode=True)
    except ValueError as error:
        raise RequestError("invalid_value", f"audio is not base64: {str(error).lower()}", "audio") from None
    return data, len(data) / SAMPLE_BYTES[encoding] / rate
