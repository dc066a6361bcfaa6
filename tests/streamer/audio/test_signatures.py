"""Tests of streamer/audio/signatures.py."""

from __future__ import annotations

from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.audio.signatures import (
    HEAD_BYTES,
    LONG_SEARCHED_BYTES,
    MAX_PLACES,
    SEARCHED_BYTES,
    Beginning,
    begins_recording,
    is_known,
    may_begin_recording,
)
from streamer.errors import AudioFormatError
from tests.helpers.live_recordings import FORMATS, recorded


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_is_known_by_its_first_bytes(name: str) -> None:
    """No shorter beginning is refused."""
    data = recorded(name)
    assert Beginning().receive(data) == data
    assert all(is_known(data[:n]) in (None, True) for n in range(HEAD_BYTES))


@given(st.binary(max_size=20))
def test_more_bytes_never_take_an_answer_back(data: bytes) -> None:
    """What is known stays known, what is refused stays refused, and after `HEAD_BYTES` there is an answer."""
    answers = [is_known(data[:n]) for n in range(len(data) + 1)]
    told = [answer for answer in answers if answer is not None]
    assert len(set(told)) <= 1
    assert len(data) < HEAD_BYTES or told
    for n in range(len(data)):
        assert begins_recording(data[:n]) <= begins_recording(data)
        assert begins_recording(data) <= (begins_recording(data[:n]) or may_begin_recording(data[:n]))


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("before", [b"\r\n", b"HTTP/1.1 200 OK\r\nContent-Type: audio/ogg\r\n\r\n", bytes(2000)])
def test_a_recording_is_found_behind_other_bytes(name: str, before: bytes) -> None:
    """As soon as its header, or some frames, have come."""
    data, beginning = before + recorded(name)[:8000], Beginning()
    found = b"".join(beginning.receive(data[at : at + 50]) for at in range(0, len(data), 50))
    assert data.endswith(found)
    assert len(before) <= len(data) - len(found) < len(before) + 100  # the tag of an MP3 is no header


@pytest.mark.parametrize("data", [b"GET / HTTP/1.1\r\n", b"OggSOggSOggS", bytes(12), b'{"type":"start"}'])
def test_what_is_no_recording_is_refused(data: bytes) -> None:
    """With what to send instead: once so much has come that something would have been found, or at the end."""
    ended, flooded = Beginning(), Beginning()
    assert ended.receive(data) == b""
    with pytest.raises(AudioFormatError, match=r"neither wav nor webm.*send encoding=linear16"):
        ended.end()
    with pytest.raises(AudioFormatError, match=r"neither wav nor webm.*send encoding=linear16"):
        deque(map(flooded.receive, [data] * SEARCHED_BYTES), maxlen=0)


@pytest.mark.parametrize(("n_before", "is_found"), [(LONG_SEARCHED_BYTES - 100, True), (LONG_SEARCHED_BYTES, False)])
def test_a_long_message_is_not_searched_to_its_end(n_before: int, is_found: bool) -> None:
    """A megabyte takes the event loop fifty milliseconds."""
    wav = recorded("wav 24 bit")
    beginning = Beginning()
    if is_found:
        assert beginning.receive(b"?" * n_before + wav) == wav
    else:
        with pytest.raises(AudioFormatError, match="no encoding was named"):
            beginning.receive(b"?" * n_before + wav)


@pytest.mark.parametrize(("before", "name"), [(b"G", "aac"), (b"RIFF", "flac")])
def test_no_more_than_some_places_are_looked_at(before: bytes, name: str) -> None:
    """Bytes that all look like a beginning would be searched for a tenth of a second."""
    recording = recorded(name)[:8000]
    assert Beginning().receive(before * (MAX_PLACES // 2) + recording) == recording
    with pytest.raises(AudioFormatError):
        Beginning().receive(before * (MAX_PLACES * 2) + recording)
