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
from streamer.audio.wav import MAX_CHUNKS, MAX_HEADER_BYTES, MAX_SHORT, WavFormat, WavHeader, WavStream
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
    assert len(decoded(wav("PCM_U8", 16_000, TONE[:-1]) + b"id3 " + bytes(1000), 0)) == len(TONE) - 1


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


@given(st.integers(0, 2**32 - 1) | st.integers(0, 4000), st.integers(0, 99))
def test_no_size_is_believed(size: int, seed: int) -> None:
    """Samples go on behind a size that was written before the end was known."""
    data = wav("PCM_24", 16_000)
    at = data.index(b"data") + 4
    assert len(decoded(data[:at] + size.to_bytes(4, "little") + data[at + 4 :], seed)) == len(TONE)


@given(st.lists(st.sampled_from([*SUBTYPES, "cut"]), min_size=2, max_size=4), st.booleans(), st.integers(0, 99))
def test_the_next_header_ends_the_samples(subtypes: list[str], has_size: bool, seed: int) -> None:
    """Also within a message, and where the one before it broke off."""
    files = [wav("PCM_16", 16_000)[:1044] if subtype == "cut" else wav(subtype, 16_000) for subtype in subtypes]
    if not has_size:
        files = [data[: data.index(b"data") + 4] + bytes(4) + data[data.index(b"data") + 8 :] for data in files]
    assert len(decoded(b"".join(files), seed)) == sum(500 if s == "cut" else len(TONE) for s in subtypes)


def test_a_wrong_size_before_the_samples_does_not_hide_them() -> None:
    """They are found by the name of their chunk."""
    data = wav("PCM_16", 16_000)
    for size in (0, 7, 999, 2**31):
        chunk = b"LIST" + size.to_bytes(4, "little") + b"INFOISFT\x0e\0\0\0Lavf61.7.100\0\0"
        assert len(decoded(data[:36] + chunk + data[36:], 3)) == pytest.approx(len(TONE), abs=20)


def test_samples_that_are_no_numbers_are_silence() -> None:
    """The rest is heard."""
    data = wav("FLOAT", 16_000)
    heard = decoded(data[:-400] + np.full(50, np.nan, "<f4").tobytes() + data[-200:], 0)
    assert len(heard) == len(TONE)
    assert not heard[-100:-50].any()
    assert heard[-50:].any()


@pytest.mark.parametrize("n", [7, 100_000])
def test_chunks_before_the_samples_have_an_end(n: int) -> None:
    """A few stand there; each of thousands would be looked at on the event loop."""
    data, junk = wav("PCM_16", 16_000), b"junk\0\0\0\0"

    def read(data: bytes) -> int:
        stream = WavStream()
        return sum(len(block) for at in range(0, len(data), n) for block in stream.blocks(data[at : at + n]))

    assert read(data[:12] + 100 * junk + data[12:]) == read(data)
    with pytest.raises(AudioFormatError, match="more than 1000 chunks before its samples"):
        read(data[:12] + MAX_CHUNKS * junk + data[12:])


def test_headers_without_sound_have_an_end() -> None:
    """Each costs as much as 0.1 s of sound; a client that sends each piece of sound as a file of its own is heard."""
    one, piece = wav("PCM_16", 16_000, TONE[:1]), wav("PCM_16", 16_000, TONE[:320])
    heard = sum(map(len, [*(stream := WavStream()).blocks(piece * 300), *stream.end()]))
    with pytest.raises(AudioFormatError, match=f"{MAX_SHORT} wavs in a row of less than 0.01 s"):
        list(WavStream().blocks(one * (MAX_SHORT + 2)))
    assert heard == 300 * 320
    assert sum(map(len, WavStream().blocks((one * MAX_SHORT + piece) * 3))) > 900
