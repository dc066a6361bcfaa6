"""Tests of streamer/audio/beginnings.py: what may stand in front of a recording."""

from __future__ import annotations

import io
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.audio.beginnings import beginning
from tests.helpers.damaged_recordings import heard
from tests.helpers.live_recordings import FORMATS, recorded

FORM = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\nContent-Type: audio/wav\r\n\r\n'


def begins_at(data: bytes) -> int | None:
    """Where the recording begins."""
    return beginning(io.BytesIO(data), len(data))


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("before", [FORM, bytes(300_000), random.Random(7).randbytes(100_000)], ids=["form", "0", "?"])
def test_bytes_before_a_recording_are_passed_over(name: str, before: bytes) -> None:
    """The head of a form that was saved with the file, a disk's empty sectors, chance."""
    assert (
        len(before) <= (begins_at(before + recorded(name)) or 0) < len(before) + 100
    )  # the tag of an MP3 is no header
    assert heard(before + recorded(name))[0] == pytest.approx(heard(recorded(name))[0], abs=0.15)


@settings(max_examples=30)
@given(st.sampled_from(sorted(FORMATS)), st.integers(0, 2**28 - 1))
def test_no_length_of_a_tag_is_believed(name: str, n: int) -> None:
    """The recording behind it is found."""
    length = bytes(n >> shift & 0x7F for shift in (21, 14, 7, 0))
    data = b"ID3\x04\0\0" + length + bytes(2000) + recorded(name)
    assert heard(data)[0] == pytest.approx(heard(recorded(name))[0], abs=0.15)


@given(st.binary(max_size=2000))
def test_chance_has_no_beginning(data: bytes) -> None:
    """Or one that is within the file."""
    assert 0 <= (begins_at(data) or 0) <= len(data)
