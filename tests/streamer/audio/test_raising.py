"""Tests of streamer.audio.raising."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from streamer.audio.raising import FADING_DB_PER_S, MAX_STEPS, QUIET_PEAK, STEP, Raiser
from streamer.audio.vad import FRAME_SAMPLES
from tests.helpers.hearing import noise

FRAMES = noise(20 * FRAME_SAMPLES).reshape(20, FRAME_SAMPLES)


def peak(frames: torch.Tensor) -> float:
    return float(frames.abs().max())


def test_ordinary_sound_passes_as_it_is() -> None:
    """The same samples, not a copy; also what is quiet between loud frames."""
    frames = FRAMES.clone()
    frames[1::2] *= 1e-4
    raiser = Raiser()
    for part in frames.split(3):
        assert raiser.raised(part) is part


@pytest.mark.parametrize("decibels", [-40, -55, -70])
def test_quiet_sound_is_raised_to_one_level(decibels: int) -> None:
    """By the same gain for all frames, which leaves its peaks below what counts as quiet."""
    quiet = FRAMES * 10 ** (decibels / 20)
    raised = Raiser().raised(quiet)
    assert QUIET_PEAK / STEP < peak(raised) <= QUIET_PEAK
    torch.testing.assert_close(raised[-1] / quiet[-1], (raised[10] / quiet[10]))


def test_what_is_far_too_quiet_stays_quiet() -> None:
    """The gain has an end; silence has none."""
    assert peak(Raiser().raised(1e-7 * FRAMES)) == pytest.approx(1e-7 * peak(FRAMES) * STEP**MAX_STEPS)
    assert not Raiser().raised(torch.zeros(3, FRAME_SAMPLES)).any()
    assert Raiser().raised(torch.zeros(0, FRAME_SAMPLES)).shape == (0, FRAME_SAMPLES)


def test_a_loud_peak_is_forgotten() -> None:
    """A voice that is 50 dB quieter is raised, first by one step, as soon as the peak has faded so far."""
    raiser = Raiser()
    raiser.raised(torch.ones(1, FRAME_SAMPLES))
    quiet = torch.full((2000, FRAME_SAMPLES), 10 ** (-50 / 20))
    raised = raiser.raised(quiet)[:, 0] / quiet[0, 0]
    first = int((raised > 1).nonzero()[0])
    assert first * 0.032 == pytest.approx((30.5 + 10) / FADING_DB_PER_S, abs=0.1)
    assert float(raised[first]) == pytest.approx(STEP)


@given(cuts=st.lists(st.integers(0, 20), max_size=5))
def test_blocks_make_no_difference(cuts: list[int]) -> None:
    """Any split of the frames is raised alike."""
    quiet, raiser = 0.02 * FRAMES, Raiser()
    edges = [0, *sorted(cuts), 20]
    parts = [raiser.raised(quiet[a:b]) for a, b in itertools.pairwise(edges)]
    assert torch.equal(torch.cat(parts), Raiser().raised(quiet))
