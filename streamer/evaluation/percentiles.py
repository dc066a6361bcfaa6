"""Percentiles of delays and costs, by one rule everywhere. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np

DIGITS = 3
"""Of the percentiles that are reported."""


class Percentiles(msgspec.Struct, frozen=True, kw_only=True):
    """The median and the 95th percentile of some measurements, in their unit."""

    p50: float
    p95: float


def percentile(values: Sequence[float], p: float) -> float:
    """
    One percentile, interpolated linearly between the two nearest ranks (the default of numpy).

    It rises with `p` and lies between the smallest and the largest value. Of one value it is that value; of two the
    median is their mean.

    Args:
        values: At least one, in any order.
        p: 0 (the smallest value) to 100 (the largest).

    Raises:
        ValueError: There are no values.
    """
    if not len(values):
        raise ValueError("no values: expected at least one")
    return float(np.percentile(np.asarray(values, np.float64), p))


def percentiles(values: Sequence[float]) -> Percentiles | None:
    """P50 and P95, rounded to `DIGITS` decimals; None of no values."""
    if not len(values):
        return None
    return Percentiles(p50=round(percentile(values, 50), DIGITS), p95=round(percentile(values, 95), DIGITS))
