"""Tests of streamer/audio/chunked.py: headers of WAV, AIFF, Wave64 and CAF that are wrong or damaged."""

from __future__ import annotations

import functools
import io
import struct

import numpy as np
import pytest
import soundfile
from hypothesis import example, given, settings
from hypothesis import strategies as st

from streamer.audio.files import read_sound
from tests.helpers.damaged_recordings import heard, with_patch
from tests.helpers.live_recordings import RATE, SECONDS, tone

GUID = 16
SIZES = st.sampled_from([0, 1, 24, 4000, 2**31, 2**63, 2**64 - 1]) | st.integers(0, 2**64 - 1)


@functools.cache
def written(format_: str, subtype: str = "PCM_16", channels: int = 1) -> bytes:
    """The tone, by libsndfile."""
    file = io.BytesIO()
    soundfile.write(file, np.repeat(tone()[:, None], channels, axis=1), RATE, format=format_, subtype=subtype)
    return file.getvalue()


@settings(max_examples=40)
@given(SIZES, SIZES, st.sampled_from(["PCM_16", "PCM_24", "FLOAT", "ULAW"]), st.integers(1, 2))
def test_no_size_in_a_wave64_header_is_believed(whole: int, samples: int, subtype: str, channels: int) -> None:
    """All samples are decoded."""
    data = written("W64", subtype, channels)
    data = with_patch(data, GUID, struct.pack("<Q", whole))
    data = with_patch(data, data.index(b"data") + GUID, struct.pack("<Q", samples))
    assert heard(data)[0] == pytest.approx(SECONDS, abs=0.001)


@settings(max_examples=40)
@given(SIZES, st.sampled_from(["PCM_16", "PCM_24", "FLOAT", "ALAW"]))
def test_no_size_in_a_caf_header_is_believed(samples: int, subtype: str) -> None:
    """Likewise."""
    data = written("CAF", subtype)
    data = with_patch(data, data.index(b"data") + 4, struct.pack(">Q", samples))
    assert heard(data)[0] == pytest.approx(SECONDS, abs=0.001)


@settings(max_examples=30)
@given(SIZES.map(lambda n: n % 2**32), st.sampled_from(["PCM_16", "ULAW"]))
def test_no_size_in_an_au_header_is_believed(samples: int, subtype: str) -> None:
    """Likewise, though AU has no chunks."""
    assert heard(with_patch(written("AU", subtype), 8, struct.pack(">I", samples)))[0] == SECONDS


@pytest.mark.parametrize("format_", ["WAV", "WAVEX", "RF64", "W64", "CAF", "AIFF", "AU"])
@pytest.mark.parametrize("n", [2, 5])
def test_recordings_one_behind_the_other_are_all_heard(format_: str, n: int) -> None:
    """In each of these formats, and a part of the last one is told."""
    data = written(format_)
    assert heard(data * n)[0] == pytest.approx(n * SECONDS, abs=0.01)
    seconds, notes = heard(data * n + data[: len(data) // 2])
    assert seconds == pytest.approx((n + 0.5) * SECONDS, abs=0.1)
    assert format_ == "AU" or "its header announces" in notes[-1].text


@settings(max_examples=60)
@given(st.integers(0, 15), st.binary(min_size=1, max_size=16), st.booleans())
@example(9, b"\0\0\0\0fmt ", False)
@example(10, b"\0\0\0\0fmt ", False)
@example(0, b"RIFFfmt WAVEfmt ", True)
@example(3, b"X", False)
@example(3, b"caff", True)
@example(0, b"fLaC", True)
@example(12, b"data", True)
def test_damage_around_the_format_of_a_wav_costs_nothing(at: int, damage: bytes, has_sizes: bool) -> None:
    """The numbers that tell the format agree with each other, which chance does not."""
    data = written("WAV", "PCM_16", 2)
    if not has_sizes:
        data = with_patch(data, data.index(b"data") + 4, bytes(4))
    damage = damage[: 20 - at]
    assert heard(with_patch(data, at, damage))[0] == SECONDS


@settings(max_examples=60)
@given(st.integers(0, 2**32 - 1) | st.integers(0, 300), st.integers(0, 99))
def test_a_wrong_size_before_the_samples_costs_nothing(size: int, n_bytes: int) -> None:
    """They are found by the name of their chunk: also where a recorder did not fill up an odd chunk."""
    data = written("WAV")
    at = data.index(b"data")
    chunk = b"LIST" + struct.pack("<I", size) + bytes(n_bytes)
    assert heard(data[:at] + chunk + data[at:])[0] == pytest.approx(SECONDS, abs=0.05)


@settings(max_examples=30)
@given(st.integers(0, 2**32 - 1))
def test_a_wrong_size_of_the_format_costs_nothing(size: int) -> None:
    """It is as long as its kind is."""
    assert heard(with_patch(written("WAV"), 16, struct.pack("<I", size)))[0] == pytest.approx(SECONDS, abs=0.01)


def test_the_longer_form_of_broadcasters_is_read() -> None:
    """BW64 is RF64 under another name."""
    data = b"BW64" + written("RF64")[4:]
    assert heard(data) == (SECONDS, ())
    assert heard(with_patch(data, data.index(b"ds64") + 16, bytes(8)))[0] == SECONDS


def test_samples_that_begin_with_their_highest_byte_are_read_so() -> None:
    """RIFX is WAV the other way round."""
    file = io.BytesIO()
    soundfile.write(file, tone(), RATE, format="WAV", subtype="PCM_16", endian="BIG")
    data = file.getvalue()
    for each in (data, with_patch(with_patch(data, 4, bytes(4)), data.index(b"data") + 4, bytes(4))):
        np.testing.assert_allclose(read_sound(io.BytesIO(each), "rifx").samples, tone(), atol=1e-4)


def test_a_name_of_the_samples_that_is_damaged_costs_nothing() -> None:
    """They begin behind the format."""
    data = written("WAV")
    assert heard(with_patch(data, data.index(b"data"), b"d\0ta"))[0] == SECONDS
