"""Tests of streamer.audio.pcm."""

from __future__ import annotations

import io
import itertools

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from streamer.audio.pcm import SAMPLE_RATE, AudioDecoder, Resampler, alaw_table, mulaw_table
from streamer.errors import AudioFormatError
from streamer.protocol.messages import SAMPLE_BYTES


def tone(rate: int, seconds: float = 0.5, hertz: float = 440.0) -> NDArray[np.float32]:
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(int(rate * seconds)) / rate)).astype(np.float32)


def encode(samples: NDArray[np.float32], encoding: str) -> bytes:
    if encoding == "pcm_f32le":
        return samples.astype("<f4").tobytes()
    if encoding == "pcm_s16le":
        return np.round(samples * 32767).astype("<i2").tobytes()
    table = {"mulaw": mulaw_table(), "alaw": alaw_table()}[encoding]
    return np.abs(samples[:, None] - table).argmin(axis=1).astype("u1").tobytes()


def decode_all(decoder: AudioDecoder, parts: list[bytes]) -> NDArray[np.float32]:
    return np.concatenate([*map(decoder.decode, parts), decoder.finish()])


@settings(max_examples=40)
@given(
    encoding=st.sampled_from(sorted(SAMPLE_BYTES)),
    rate=st.sampled_from([8000, 11025, 16000, 22050, 44100, 48000]) | st.integers(8000, 48000),
    channels=st.integers(1, 8),
    cuts=st.lists(st.integers(0, 8000), max_size=20),
    seed=st.integers(0, 2**32 - 1),
)
def test_any_split_gives_the_same_samples(encoding: str, rate: int, channels: int, cuts: list[int], seed: int) -> None:
    """However a stream is cut into messages, also within a sample, the decoder says bit for bit the same."""
    samples = np.random.default_rng(seed).uniform(-1, 1, 2000 * channels).astype(np.float32)
    data = encode(samples, encoding)
    edges = [0, *sorted(cuts), len(data)]
    parts = [data[start:end] for start, end in itertools.pairwise(edges)]
    whole = decode_all(AudioDecoder(encoding, rate, channels), [data])
    split = decode_all(AudioDecoder(encoding, rate, channels), parts)
    np.testing.assert_array_equal(split, whole)


@pytest.mark.parametrize("encoding", sorted(SAMPLE_BYTES))
@pytest.mark.parametrize("rate", [8000, 16000, 44100, 48000])
def test_a_tone_comes_out_as_the_same_tone_at_16_khz(encoding: str, rate: int) -> None:
    """Every encoding and rate keeps frequency, level and length; quantisation is the only loss."""
    decoded = decode_all(AudioDecoder(encoding, rate, 1), [encode(tone(rate), encoding)])
    expected = tone(SAMPLE_RATE)
    assert decoded.dtype == np.float32
    assert abs(len(decoded) - len(expected)) <= 1
    # the edges ring; mu-law and A-law steps near 0.5 are 1/64 wide
    difference = np.abs(decoded[400:-400] - expected[400 : len(decoded) - 400]).max()
    assert difference < (0.02 if encoding.endswith("law") else 1e-3)


@pytest.mark.parametrize(("subtype", "table"), [("ULAW", mulaw_table()), ("ALAW", alaw_table())])
def test_law_tables_agree_with_libsndfile(subtype: str, table: NDArray[np.float32]) -> None:
    """All 256 codes of both G.711 laws decode as libsndfile decodes them."""
    codes = io.BytesIO(bytes(range(256)))
    expected, _ = soundfile.read(codes, format="RAW", subtype=subtype, samplerate=8000, channels=1, dtype="float32")
    np.testing.assert_array_equal(table, expected)


def test_channels_are_mixed_to_their_mean() -> None:
    """Left 0.5 and right -0.25 give 0.125."""
    stereo = np.tile(np.array([0.5, -0.25], np.float32), 100)
    decoded = AudioDecoder("pcm_f32le", SAMPLE_RATE, 2).decode(encode(stereo, "pcm_f32le"))
    np.testing.assert_array_equal(decoded, np.full(100, 0.125, np.float32))


def test_s16_full_scale_is_one() -> None:
    """The most negative s16 sample is -1 exactly, and nothing exceeds the range."""
    data = np.array([-32768, 0, 32767], "<i2").tobytes()
    decoded = AudioDecoder("pcm_s16le", SAMPLE_RATE, 1).decode(data)
    np.testing.assert_array_equal(decoded, np.array([-1, 0, 32767 / 32768], np.float32))


@pytest.mark.parametrize("rate", [8000, 16000, 48000])
def test_samples_stay_within_one(rate: int) -> None:
    """Floats beyond full scale are clipped, before and after the resampler's overshoot."""
    square = np.where(np.arange(2000) // 50 % 2, 3e38, -3e38).astype(np.float32)
    decoded = decode_all(AudioDecoder("pcm_f32le", rate, 1), [encode(square, "pcm_f32le")])
    assert np.isfinite(decoded).all()
    assert np.abs(decoded).max() == 1


def test_finish_begins_a_new_signal() -> None:
    """After `finish` nothing of the old signal is heard, and a second `finish` is empty."""
    data = encode(tone(48000), "pcm_s16le")
    decoder = AudioDecoder("pcm_s16le", 48000, 1)
    first = decode_all(decoder, [data])
    assert len(decoder.finish()) == 0
    np.testing.assert_array_equal(decode_all(decoder, [data]), first)


@pytest.mark.parametrize(
    ("encoding", "rate", "channels", "message"),
    [
        ("opus", 48000, 1, "encoding 'opus': expected one of pcm_s16le, pcm_f32le, mulaw, alaw"),
        ("pcm_s16le", 7999, 1, "rate 7999: expected 8000 to 48000 hertz"),
        ("pcm_s16le", 48001, 1, "rate 48001: expected 8000 to 48000 hertz"),
        ("pcm_s16le", 16000, 0, "0 channels: expected 1 to 8"),
        ("pcm_s16le", 16000, 9, "9 channels: expected 1 to 8"),
    ],
)
def test_unsupported_formats_say_what_is_supported(encoding: str, rate: int, channels: int, message: str) -> None:
    """An unsupported format is refused with what was found and what is allowed."""
    with pytest.raises(AudioFormatError) as caught:
        AudioDecoder(encoding, rate, channels)
    assert str(caught.value) == message


def test_part_of_a_sample_at_the_end_is_dropped() -> None:
    """It waits for the rest of its frame, which never comes."""
    decoder = AudioDecoder("pcm_s16le", SAMPLE_RATE, 2)
    assert len(decoder.decode(b"\0" * 7)) == 1
    assert len(np.concatenate(list(decoder.end()))) == 0


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_samples_that_are_not_finite_are_refused(value: float) -> None:
    """NaN would poison every later frame of the window: the message is refused, naming the sample."""
    data = encode(np.array([0, value], np.float32), "pcm_f32le")
    with pytest.raises(AudioFormatError, match=r"sample 1 of the message is (nan|-?inf): expected -1 to 1"):
        AudioDecoder("pcm_f32le", SAMPLE_RATE, 1).decode(data)


@pytest.mark.parametrize("channels", [1, 3])
def test_floats_in_the_range_of_integers_are_refused(channels: int) -> None:
    """Clipped they would be noise."""
    decoder = AudioDecoder("pcm_f32le", SAMPLE_RATE, channels)
    with pytest.raises(AudioFormatError, match="floats in the range of integers"):
        decoder.decode(encode(32768 * tone(SAMPLE_RATE, channels), "pcm_f32le"))


def test_an_empty_message_is_no_samples() -> None:
    """Zero bytes are zero frames, at every rate."""
    assert len(AudioDecoder("pcm_s16le", 48000, 1).decode(b"")) == 0
    assert len(Resampler(SAMPLE_RATE).finish()) == 0
