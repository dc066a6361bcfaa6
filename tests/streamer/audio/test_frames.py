"""Tests of streamer/audio/frames.py: streams without a header, joined and left anywhere."""

from __future__ import annotations

import io

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from streamer.audio.frames import announced_s, ends_within_frame, first_chain, frame_at
from tests.helpers.live_recordings import SECONDS, recorded


def frames_of(data: bytes) -> list[int]:
    """Places of all frames that follow each other from the first one on."""
    at, places = first_chain(data) or 0, []
    while (frame := frame_at(data, at)) is not None:
        places.append(at)
        at += frame.n_bytes
    assert at == len(data)
    return places


@given(st.sampled_from(["mp3", "aac", "mpegts"]), st.integers(0, 2000))
def test_a_stream_that_is_joined_begins_with_its_next_frame(name: str, at: int) -> None:
    """Wherever that was: the rest of a frame is passed over."""
    data = recorded(name)
    assert at + (first_chain(data[at:]) or 0) == next(place for place in frames_of(data) if place >= at)


@given(st.binary(max_size=5000))
def test_chance_is_no_stream(data: bytes) -> None:
    """It has the bits of one frame now and then, but not of several behind each other."""
    assert first_chain(data) is None


@given(st.sampled_from(["mp3", "aac", "mpegts"]), st.integers(1, 3000))
def test_a_stream_that_is_left_within_a_frame_is_told(name: str, n_lost: int) -> None:
    """Between two frames nothing tells that others are missing."""
    data = recorded(name)
    assert ends_within_frame(data[:-n_lost]) == (len(data) - n_lost not in frames_of(data))
    assert not ends_within_frame(data)


@pytest.mark.parametrize("rate", [8000, 11_025, 16_000, 24_000, 32_000, 44_100])
def test_the_first_frame_of_an_mp3_tells_its_length(rate: int) -> None:
    """In each of the three versions of MPEG audio."""
    file = io.BytesIO()
    soundfile.write(file, np.zeros(3 * rate), rate, format="MP3", subtype="MPEG_LAYER_III")
    data = file.getvalue()
    assert announced_s(data[first_chain(data) :]) == pytest.approx(3, abs=0.01)


def test_other_streams_tell_no_length() -> None:
    """Nor does an MP3 without that frame."""
    mp3 = recorded("mp3")
    assert announced_s(mp3[first_chain(mp3) :]) == pytest.approx(SECONDS, abs=0.01)
    assert announced_s(mp3[frames_of(mp3)[1] :]) is None
    assert announced_s(recorded("aac")) is announced_s(b"") is announced_s(b"\xff\xfb") is None
