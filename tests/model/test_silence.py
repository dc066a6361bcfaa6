"""model/silence.py"""

from __future__ import annotations

import math

import pytest
import torch
from torch.testing import assert_close

from tests.helpers.networks import Pair


@pytest.mark.parametrize(("n", "kept"), [(0, (2, 6, 10, 14)), (6, (6, 10, 14)), (7, (10, 14)), (17, ()), (20, ())])
def test_only_silence_behind_the_window_is_attended_to(small: Pair, n: int, kept: tuple[int, ...]) -> None:
    """Keys of positions from `n` on, with their weights."""
    silence = small.ours.encoder.encode_silence(-0.5, stride=4, n_whole=7)
    positions = [*kept, *range(max(n, 17), 24)]

    keys_values, log_weights = silence.last(silence.n_behind(n))

    expected = silence.keys_values[:, :, :, [silence.positions.index(p) for p in positions]]
    assert torch.equal(keys_values, expected)
    assert_close(log_weights, torch.tensor([math.log(4)] * len(kept) + [0.0] * (len(positions) - len(kept))))
