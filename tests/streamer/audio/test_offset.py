"""Tests of streamer.audio.offset."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from streamer.audio.offset import FRAME_SAMPLES, LEAST, OffsetFilter
from tests.helpers.hearing import cut_at, noise

N = 20 * FRAME_SAMPLES


def speechlike() -> Tensor:
    """A tone without offset, whose frames have a mean of 0 each."""
    return 0.2 * torch.sin(torch.arange(N) * (2 * torch.pi / 80))


def test_sound_without_offset_passes_as_it_is() -> None:
    """The same samples, not a copy, also where the mean is not quite 0."""
    offset_filter = OffsetFilter()
    for block in (speechlike() + 0.9 * LEAST).split(777):
        assert offset_filter.filter(block) is block


@pytest.mark.parametrize("offset", [-0.75, -0.1, 0.08, 0.3, 0.79])
def test_an_offset_is_gone_after_two_frames(offset: float) -> None:
    """And what was heard beside it is unchanged."""
    filtered = OffsetFilter().filter(speechlike() + offset)
    torch.testing.assert_close(filtered[2 * FRAME_SAMPLES :], speechlike()[2 * FRAME_SAMPLES :], rtol=0, atol=1e-6)


def test_an_offset_may_come_change_and_go() -> None:
    """It is followed in straight lines, without a step of its own."""
    offset = torch.tensor([0.0, -0.7, 0.5, 0.0]).repeat_interleave(N // 4)
    filtered = OffsetFilter().filter(speechlike() + offset)
    for quarter, heard in zip(filtered.split(N // 4), speechlike().split(N // 4), strict=True):
        torch.testing.assert_close(quarter[2 * FRAME_SAMPLES :], heard[2 * FRAME_SAMPLES :], rtol=0, atol=1e-6)
    taken_out = speechlike() + offset - filtered
    assert float(taken_out.diff().abs().max()) < 2 / FRAME_SAMPLES


@settings(max_examples=30)
@given(places=st.lists(st.integers(0, 8000), max_size=6), offset=st.floats(-0.9, 0.9))
def test_blocks_make_no_difference(places: list[int], offset: float) -> None:
    """Any chunking gives the same samples, but for the rounding of a mean, and loses none."""
    samples = noise(8000) + offset
    offset_filter = OffsetFilter()
    filtered = torch.cat([*map(offset_filter.filter, cut_at(samples, places))])
    torch.testing.assert_close(filtered, OffsetFilter().filter(samples), rtol=0, atol=1e-6)
