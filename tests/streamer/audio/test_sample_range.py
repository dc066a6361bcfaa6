"""Tests of streamer.audio.sample_range."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from streamer.audio.sample_range import FRAMES_PER_S, MIN_FRAMES, RangeMeter
from streamer.errors import AudioFormatError

RATE = 8000
N_FRAME = RATE // FRAMES_PER_S


def noise(n_frames: float, loudness: float, seed: int = 0) -> NDArray[np.float32]:
    """White noise of some frames, (n, 1), of which each sample is about so loud."""
    found = np.random.default_rng(seed).normal(0, loudness, (int(n_frames * N_FRAME), 1))
    return found.astype(np.float32)


def full_scale(*parts: NDArray[np.float32]) -> int:
    meter = RangeMeter(RATE)
    for part in parts:
        meter.add(part)
    return meter.full_scale


@pytest.mark.parametrize("bits", [16, 24, 32])
@pytest.mark.parametrize("loudness", [0.25, 0.02])
def test_integers_are_told_with_their_full_scale(bits: int, loudness: float) -> None:
    """Loud and quiet ones; silence before them says nothing."""
    scale = 2 ** (bits - 1)
    assert full_scale(noise(20, 0.0), noise(MIN_FRAMES, loudness * scale)) == scale


@pytest.mark.parametrize("loudness", [0.001, 0.3, 3.0])
def test_floats_that_are_too_loud_are_none(loudness: float) -> None:
    """10 dB above full scale all the time, and short peaks far above it."""
    samples = noise(100, loudness)
    samples[::7] *= 1000
    assert full_scale(samples) == 1


def test_damage_is_none() -> None:
    """Bytes of chance as floats, and numbers beyond all integers."""
    chance = np.random.default_rng(1).integers(0, 2**32, 100 * N_FRAME, np.uint32).view(np.float32)
    assert full_scale(np.nan_to_num(chance, posinf=0, neginf=0)[:, None], noise(100, 1e20)) == 1
    assert full_scale(noise(MIN_FRAMES - 1, 3000), noise(100, 0.3)) == 1


def test_a_few_damaged_frames_do_not_change_the_scale() -> None:
    """Louder than 16 bits can be."""
    assert full_scale(noise(40, 3000), noise(2, 1e6), noise(40, 3000)) == 2**15


def test_one_channel_suffices() -> None:
    """The other one is silent."""
    assert full_scale(np.hstack([noise(10, 0.0), noise(10, 3000)])) == 2**15


@settings(max_examples=20)
@given(cuts=st.lists(st.integers(0, 10 * N_FRAME), max_size=5))
def test_blocks_make_no_difference(cuts: list[int]) -> None:
    """Where the last frame is one of integers, any cut tells them."""
    samples = np.concatenate([noise(7, 0.5), noise(MIN_FRAMES, 3000)])
    assert full_scale(*np.split(samples, sorted(cuts))) == 2**15


def test_live_integers_are_refused() -> None:
    """Once they are sure, and with what to do."""
    meter = RangeMeter(RATE)
    meter.refuse_integers(noise(MIN_FRAMES - 1, 3000))
    with pytest.raises(AudioFormatError, match="expected -1 to 1; divide them by 32768"):
        meter.refuse_integers(noise(1, 3000))
