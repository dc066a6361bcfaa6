"""Confidence intervals of error rates by resampling recordings. Pure: the same numbers give the same interval."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

N_SAMPLES = 2000
CONFIDENCE = 0.95


def rate_interval(errors: Sequence[int], words: Sequence[int]) -> tuple[float, float] | None:
    """
    Where the rate of all errors over all words lies, were other recordings of the same sort taken.

    Args:
        errors: Of each recording; or, of two decodings of it, the difference: words and recordings stay paired.
        words: Of each recording, positive.

    Returns:
        Lower and upper end of the 95 % interval; None of fewer than two recordings.

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
