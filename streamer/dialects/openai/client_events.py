"""The events that a client of OpenAI's Realtime API sends to a transcription session. Pure."""

from __future__ import annotations

import binascii

from msgspec import Raw, Struct

from streamer.dialects.openai.errors import RequestError
from streamer.dialects.openai.session import decode
from streamer.protocol.messages import SAMPLE_BYTES, Encoding


class ClientEvent(Struct, frozen=True, kw_only=True):
    """Base of all; an error that an event leads to names its id."""

    event_id: str | None = None


class SessionUpdateEvent(ClientEvent, frozen=True, kw_only=True):
    """`session.update` and its beta form; how `session` is read depends on the dialect."""

    session: Raw


class AudioAppendEvent(ClientEvent, frozen=True, kw_only=True):
    """`input_audio_buffer.append`."""

    audio: str
    """Base64."""


class Envelope(ClientEvent, frozen=True, kw_only=True):
    """What every event has."""

    type: str


KINDS: dict[str, type[ClientEvent]] = {
    "session.update": SessionUpdateEvent,
    "transcription_session.update": SessionUpdateEvent,
    "input_audio_buffer.append": AudioAppendEvent,
    "input_audio_buffer.commit": ClientEvent,
    "input_audio_buffer.clear": ClientEvent,
}
"""What is taken, by its type."""


def read_envelope(frame: str | bytes, max_frame_bytes: int) -> Envelope:
    """Type and id of a message. Raises RequestError if it is no event, or too long."""
    if isinstance(frame, bytes):
        raise RequestError("invalid_value", "a binary message: audio goes into input_audio_buffer.append as base64")
    if len(frame) > max_frame_bytes:
        raise RequestError("event_too_large", f"event of {len(frame)} bytes: expected at most {max_frame_bytes}")
    return decode(frame, Envelope)


def read_event(type_: str, frame: str | bytes) -> ClientEvent:
    """The event of a type. Raises RequestError if there is no such type, or a field is wrong."""
    if type_ not in KINDS:
        raise RequestError("invalid_value", f'type = "{type_[:60]}": expected one of {", ".join(KINDS)}', "type")
    return decode(frame, KINDS[type_])


def read_audio(text: str, encoding: Encoding, rate: int) -> tuple[bytes, float]:
    """The bytes of base64 audio and how many seconds they last. Raises RequestError if they are no whole samples."""
    try:
        data = binascii.a2b_base64(text, strict_mode=True)
    except ValueError as error:
        raise RequestError("invalid_value", f"audio is not base64: {str(error).lower()}", "audio") from None
    size = SAMPLE_BYTES[encoding]
    if len(data) % size:
        raise RequestError(
            "invalid_value", f"{len(data)} bytes of audio: expected whole samples of {size} bytes", "audio"
        )
    return data, len(data) / size / rate
