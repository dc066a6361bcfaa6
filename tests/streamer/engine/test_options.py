"""Tests of streamer.engine.options."""

from __future__ import annotations

import pytest

from model import PUBLISHED_DIMENSIONS
from streamer.engine.options import EngineOptions

DIMS = PUBLISHED_DIMENSIONS["tiny.en"]


@pytest.mark.parametrize(
    ("options", "positions"),
    [
        (EngineOptions(max_window_s=4.0, margin_frames=16, bucket=16), 208),
        (EngineOptions(max_window_s=4.0, margin_frames=0, bucket=1), 200),
        (EngineOptions(max_window_s=30.0), 1500),
        (EngineOptions(max_window_s=4.0, silence_cache=False), 1500),
    ],
)
def test_the_longest_window_fits_with_its_margin(options: EngineOptions, positions: int) -> None:
    """In whole buckets, and never beyond what the encoder holds; full windows are full."""
    assert options.audio_capacity(DIMS) == positions
