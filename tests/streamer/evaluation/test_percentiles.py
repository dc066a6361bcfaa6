"""Tests of streamer/evaluation/percentiles.py."""

from __future__ import annotations

import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.evaluation.percentiles import Percentiles, percentile, percentiles

MEASUREMENTS = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=20)


@given(values=MEASUREMENTS, ranks=st.tuples(st.floats(0, 100), st.floats(0, 100)))
def test_percentiles_rise_within_the_values(values: list[float], ranks: tuple[float, float]) -> None:
    """A higher percentile is never smaller, and none lies outside of the values."""
    low, high = sorted(ranks)
    tolerance = 1e-9 * max(map(abs, values))

    assert percentile(values, low) <= percentile(values, high) + tolerance
    assert min(values) - tolerance <= percentile(values, low)
    assert percentile(values, high) <= max(values) + tolerance


@given(values=MEASUREMENTS)
def test_the_fiftieth_percentile_is_the_median(values: list[float]) -> None:
    """As the standard library has it, for odd and even numbers of values; the ends are the extremes."""
    assert percentile(values, 50) == pytest.approx(statistics.median(values))
    assert (percentile(values, 0), percentile(values, 100)) == (min(values), max(values))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.7], Percentiles(p50=0.7, p95=0.7)),
        ([0.7, 0.5], Percentiles(p50=0.6, p95=0.69)),
        ([3.0, 1.0, 2.0], Percentiles(p50=2.0, p95=2.9)),
        ([float(x) for x in range(101)], Percentiles(p50=50.0, p95=95.0)),
    ],
)
def test_small_samples_have_percentiles_too(values: list[float], expected: Percentiles) -> None:
    """Of one, two and three values the 95th percentile is not below the median."""
    assert percentiles(values) == expected


def test_no_values_have_no_percentiles() -> None:
    """`percentiles` answers None, `percentile` refuses."""
    assert percentiles([]) is None
    with pytest.raises(ValueError, match="expected at least one"):
        percentile([], 50)
