"""Tests of streamer/dialects/openai/client_events.py."""

from __future__ import annotations

import base64
import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.dialects.openai.client_events import KINDS, read_audio, read_envelope, read_event
from streamer.dialects.openai.errors import RequestError
from streamer.protocol.messages import Encoding


@given(st.binary(max_size=200), st.sampled_from(["pcm_s16le", "mulaw", "alaw"]), st.integers(8000, 48000))
def test_audio_comes_back_with_its_length(data: bytes, encoding: Encoding, rate: int) -> None:
    """As it was, and the seconds it lasts; it may end within a sample, whose rest comes with the next event."""
    size = 2 if encoding == "pcm_s16le" else 1
    text = base64.b64encode(data).decode()
    assert read_audio(text, encoding, rate) == (data, len(data) / size / rate)


@given(st.text(max_size=40))
def test_what_is_no_base64_is_told(text: str) -> None:
    """Not half read: a client that cuts its text anywhere would be heard as noise."""
    try:
        data, _ = read_audio(text, "mulaw", 8000)
    except RequestError as error:
        assert error.param == "audio"  # noqa: PT017 - most texts raise, some are base64
    else:
        assert base64.b64encode(data).decode() == text


@pytest.mark.parametrize(
    ("frame", "code", "message"),
    [
        (b"\0\0", "invalid_value", "a binary message"),
        ('{"type":"input_audio_buffer.clear"}' + 100 * " ", "event_too_large", "event of 135 bytes: expected at most"),
        ("{", "invalid_json", "not JSON"),
        ("{}", "missing_required_parameter", "type"),
        ('{"type":"response.create"}', "invalid_value", "expected one of session.update, "),
        ('{"type":"input_audio_buffer.append"}', "missing_required_parameter", "audio"),
        ('{"type":"session.update","event_id":1,"session":{}}', "invalid_value", "event_id: expected"),
    ],
)
def test_wrong_events_are_told_apart(frame: str | bytes, code: str, message: str) -> None:
    """By code, and with what was expected."""
    with pytest.raises(RequestError, match=message) as error:
        read_event(read_envelope(frame, 100).type, frame)

    assert error.value.code == code


@given(st.sampled_from([*KINDS, "x"]), st.one_of(st.text(max_size=60), st.just('{"type":"x","event_id":"' + "[" * 999)))
def test_whatever_is_sent_raises_nothing_else(type_: str, frame: str) -> None:
    """A RequestError or an event."""
    with contextlib.suppress(RequestError):
        read_envelope(frame, 10_000)
    with contextlib.suppress(RequestError):
        assert isinstance(read_event(type_, frame), KINDS[type_])
