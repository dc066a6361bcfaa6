"""Tests of streamer/audio/wav.py."""

from __future__ import annotations

import contextlib
import io
import random

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from streamer.audio.pcm import Samples
from streamer.audio.wav import MAX_HEADER_BYTES, WavFormat, WavHeader, WavStream
from streamer.errors import AudioFormatError

SUBTYPES = {
    "PCM_U8": 1,
    "PCM_16": 2,
    "PCM_24": 3,
    "PCM_32": 4,
    "FLOAT": 4,
    "DOUBLE": 8,
    "ULAW": 1,
    "ALAW": 1,
}
"""Subtypes of libsndfile, and bytes of a sample."""
TONE = 0.5 * np.sin(np.arange(2000) / 8)


def wav(subtype: str, rate: int, samples: NDArray[np.float64] = TONE, channels: int = 1) -> bytes:
    """A file that another library has written."""
    file = io.BytesIO()
    soundfile.write(file, np.repeat(samples[:, None], channels, 1), rate, format="WAV", subtype=subtype)
    return file.getvalue()


def decoded(data: bytes, seed: int) -> Samples:
    """All samples, of pieces of random sizes."""
    sizes, stream, blocks, at = random.Random(seed), WavStream(), [np.zeros(0, np.float32)], 0
    while at < len(data):
        n = sizes.choice([1, 2, 3, 100, 5000])
        blocks += stream.blocks(data[at : at + n])
        at += n
    return np.concatenate([*blocks, *stream.end()])


@pytest.mark.parametrize(("subtype", "width"), SUBTYPES.items())
def test_written_formats_are_read(subtype: str, width: int) -> None:
    """Format and audio, however the bytes come."""
    data = wav(subtype, 44100, np.zeros(100), 2)
    header, found, n = WavHeader(), None, 0
    while found is None:
        found = header.receive(data[n : n + 7])
        n += 7
    format_, size, begun = found
    assert (format_.bits, format_.rate, format_.channels) == (8 * width, 44100, 2)
    assert size == 200 * width
    assert (begun + data[n:])[: 200 * width] == data[-200 * width :]


@given(st.sampled_from(list(SUBTYPES)), st.integers(1, 4), st.integers(0, 99), st.booleans())
def test_every_width_is_the_same_sound(subtype: str, channels: int, seed: int, has_size: bool) -> None:
    """However its bytes are split, and with a size that was never filled in."""
    data = wav(subtype, 16_000, channels=channels)
    if not has_size:
        at = data.index(b"data") + 4
        data = data[:at] + bytes(4) + data[at + 4 :]
    tolerance = 0.03 if subtype in ("PCM_U8", "ULAW", "ALAW") else 1e-4
    np.testing.assert_allclose(decoded(data, seed)[: len(TONE)], TONE, rtol=0, atol=tolerance)


@pytest.mark.parametrize("rate", [8000, 96_000])
def test_rates_of_files_are_taken(rate: int) -> None:
    """More than raw samples may have."""
    assert len(decoded(wav("PCM_16", rate), 0)) == pytest.approx(len(TONE) * 16_000 / rate, abs=2)


def test_what_follows_the_samples_is_no_sound() -> None:
    """Recorders write their name behind them."""
    data = wav("PCM_16", 16_000)
    assert len(decoded(data + b"LIST" + bytes(1000), 0)) == len(TONE)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"OggS", "no wav"),
        (b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0\x11\0\1\0\x80\x3e\0\0" + bytes(6) + b"\4\0", "wav format 17 with 4 bits"),
        (b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0\1\0\1\0\1\0\0\0" + bytes(6) + b"\x10\0", "wav of 1 hertz"),
        (b"RIFF\0\0\0\0WAVEdata\0\0\0\0", "no format before its data"),
        (b"RIFF\0\0\0\0WAVEfmt \2\0\0\0ab", "wav format of 2 bytes"),
        (b"RIFF\0\0\0\0WAVEjunk\xff\xff\xff\x7f" + bytes(MAX_HEADER_BYTES), "no audio within"),
    ],
)
def test_other_data_is_refused_with_the_reason(data: bytes, message: str) -> None:
    """What it is and what is taken."""
    with pytest.raises(AudioFormatError, match=message):
        WavHeader().receive(data)


def test_a_stream_without_samples_is_refused_at_its_end() -> None:
    """It ended in its header."""
    stream = WavStream()
    assert list(stream.blocks(b"RIFF\0\0\0\0WAVE")) == []
    with pytest.raises(AudioFormatError, match="ended in its header"):
        list(stream.end())


def test_a_frame_holds_a_sample_of_every_channel() -> None:
    """What is not whole waits for the rest."""
    assert WavFormat(tag=1, bits=24, rate=48_000, channels=2).frame_bytes == 6


@given(st.binary(max_size=200), st.booleans())
def test_any_bytes_are_read_or_refused(data: bytes, begins_well: bool) -> None:
    """Nothing but its own error."""
    with contextlib.suppress(AudioFormatError):
        WavHeader().receive(b"RIFF\0\0\0\0WAVE" + data if begins_well else data)
