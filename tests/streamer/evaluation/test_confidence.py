"""Tests of streamer/evaluation/confidence.py: intervals that are known, or known to lie somewhere."""

from __future__ import annotations

import numpy as np

from streamer.evaluation.confidence import rate_interval


def test_one_recording_has_no_interval() -> None:
    """Nothing can be said of others like it."""
    assert rate_interval([1], [10]) is None
    assert rate_interval([], []) is None


def test_equal_recordings_leave_no_doubt() -> None:
    """The interval is the rate."""
    assert rate_interval([1] * 20, [10] * 20) == (0.1, 0.1)


def test_interval_is_that_of_the_mean() -> None:
    """Of many alike recordings: the rate, 1.96 standard errors to either side."""
    errors = np.random.default_rng(1).binomial(20, 0.1, size=400)
    half = 1.96 * np.std(errors / 20) / np.sqrt(len(errors))

    low, high = rate_interval(errors.tolist(), [20] * 400) or (0.0, 0.0)

    np.testing.assert_allclose([low, high], [errors.mean() / 20 - half, errors.mean() / 20 + half], rtol=0.03)


def test_differences_may_be_negative() -> None:
    """As of two decodings of the same recordings."""
    low, high = rate_interval([-2, 1, -1, -3, 0], [10] * 5) or (0.0, 0.0)

    assert low < -0.1 < high
