"""Tests of streamer/audio/headless.py: recordings whose beginning is lost."""

from __future__ import annotations

import functools
import io
import random

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.audio.headless import headless
from tests.helpers.damaged_recordings import heard
from tests.helpers.live_recordings import recording

RATE, SECONDS = 16_000, 6


@functools.cache
def recorded(name: str) -> bytes:
    """Six seconds of a sound that rises and falls."""
    t = np.arange(SECONDS * RATE) / RATE
    return recording(name, (0.3 * np.sin(2 * np.pi * (300 * t + 40 * np.sin(3 * t)))).astype(np.float32))


@settings(max_examples=30)
@given(st.sampled_from(["webm opus", "ogg opus", "flac"]), st.floats(0.02, 0.6), st.booleans(), st.integers(0, 99))
def test_what_is_left_is_heard(name: str, share: float, is_damaged: bool, seed: int) -> None:
    """A beginning that is damaged, or is not there, costs itself and no more than a page of Ogg; it is told."""
    data = recorded(name)
    n = int(share * len(data))
    seconds, notes = heard(random.Random(seed).randbytes(n) * is_damaged + data[n:])
    assert seconds == pytest.approx(SECONDS * (1 - share), abs=1.4)
    assert str(notes[0]) == "at 0.0 s: the file lacks its header: sound before this may be lost"


@pytest.mark.parametrize("rate", [8000, 22_050, 44_100, 48_000, 96_000])
@pytest.mark.parametrize(("channels", "subtype"), [(1, "PCM_16"), (2, "PCM_24"), (2, "PCM_S8")])
def test_frames_of_flac_say_how_they_are_read(rate: int, channels: int, subtype: str) -> None:
    """Rate, channels and width, also where both channels are coded together."""
    file = io.BytesIO()
    tone = 0.4 * np.sin(np.arange(2 * rate) * 2000 / rate)
    soundfile.write(file, np.stack([tone, 0.9 * tone], axis=1)[:, :channels], rate, format="FLAC", subtype=subtype)
    data = file.getvalue()
    assert heard(data[len(data) // 4 :])[0] == pytest.approx(1.5, abs=0.2)


@given(st.sampled_from([b"", b"OggS\0\0", b"\xa3\x84\x81\0\0\x80", b"\xff\xf8\x69\x18"]), st.binary(max_size=500))
def test_chance_is_no_recording(before: bytes, data: bytes) -> None:
    """Nor are plain samples."""
    assert headless(io.BytesIO(before + data), len(before + data)) is None
