"""Tests of streamer.audio.reader."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from streamer.audio.reader import JOINED_S, Block, Track, cleaned, joined, problem_of_layout, silenced

LAYOUTS = st.sampled_from([(8000, 1), (8000, 2), (1000, 1)])


@given(st.lists(st.tuples(st.integers(0, 2), LAYOUTS, st.integers(0, 900)), max_size=60))
def test_joined_blocks_hold_the_same_samples(drawn: list[tuple[int, tuple[int, int], int]]) -> None:
    """Of each track, in order and layout; a block is short only where its layout or the recording ends."""
    blocks, at = [], 0
    for track, (rate, n_channels), n in drawn:
        samples = np.arange(at, at + n * n_channels, dtype=np.float32).reshape(n, n_channels)
        blocks.append(Block(track, rate, (), samples))
        at += samples.size
    found = list(joined(blocks))
    for track in range(3):
        before = [(block.rate, row.tolist()) for block in blocks if block.track == track for row in block.samples]
        after = [(block.rate, row.tolist()) for block in found if block.track == track for row in block.samples]
        assert after == before
        own = [block for block in found if block.track == track]
        for block, following in itertools.pairwise(own):
            is_long = len(block.samples) >= JOINED_S * block.rate
            assert is_long or not block.is_continued_by(following)


def test_samples_that_are_no_numbers_are_counted() -> None:
    """They become silence; loud ones stay as they are."""
    track = Track()
    samples = np.array([[0.5, np.nan], [9.0, -9.0], [np.inf, 0.0]], np.float32)
    assert cleaned(samples, track, 8000).tolist() == [[0.5, 0.0], [9.0, -9.0], [0.0, 0.0]]
    assert track.losses
    assert silenced(samples).max() == 9.0


def test_layouts_have_bounds() -> None:
    """Each problem names what is allowed."""
    assert problem_of_layout(16_000, 2) == ""
    assert problem_of_layout(1, 1) == "1 samples per second, expected 1000 to 384000"
    assert problem_of_layout(8000, 0) == "0 channels, expected 1 to 64"


def test_seconds_are_counted_exactly() -> None:
    """However often, and at several rates."""
    track = Track()
    for _ in range(10_000):
        track.count(1, 1000)
    track.count(8000, 8000)
    assert track.decoded_s == 11.0
