"""Confidence intervals of error rates by resampling recordings (bootstrap). Pure: the seed is fixed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

N_SAMPLES = 2000
"""Samples of the recordings, drawn with replacement."""
CONFIDENCE = 0.95
"""Probability that the interval covers the rate."""


def rate_interval(errors: Sequence[int], words: Sequence[int]) -> tuple[float, float] | None:
    """
    The confidence interval of the rate of all errors over all words, if other recordings of the same sort were taken.

    Args:
        errors: Of each recording. Differences between two decodings of each recording give a paired interval.
        words: Of each recording, positive.

    Returns:
        Lower and upper end; None of fewer than two recordings.

    Source: Bisani and Ney 2004, "Bootstrap Estimates for Confidence Intervals in ASR Performance Evaluation".
    """
    n = len(words)
    if n < 2:
        return None
    picks = np.random.default_rng(0).integers(n, size=(N_SAMPLES, n))
    rates = np.asarray(errors)[picks].sum(axis=1) / np.asarray(words)[picks].sum(axis=1)
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(rates, [tail, 1 - tail])
    return round(float(low), 5), round(float(high), 5)
