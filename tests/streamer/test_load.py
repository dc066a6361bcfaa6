"""Tests of streamer/load.py: arithmetic of a busy device."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.load import SHARE, SMOOTHING, LoadLimits, LoadMeter

LIMITS = LoadLimits(min_interval_s=0.3, max_interval_s=2.0, max_sessions=0)


def test_interval_is_the_shortest_while_idle() -> None:
    """With nobody or few speaking the interval is the configured one."""
    meter = LoadMeter(LIMITS, 0.05)
    assert [meter.interval_s(n) for n in (0, 1, 4)] == [0.3, 0.3, 0.3]


def test_interval_grows_with_the_speakers_and_is_bounded() -> None:
    """All speakers' rows fit into the share of the interval, up to the longest interval."""
    meter = LoadMeter(LIMITS, 0.05)
    assert meter.interval_s(12) == pytest.approx(12 * 0.05 / SHARE)
    assert meter.interval_s(1000) == 2.0


def test_capacity_is_measured_or_configured() -> None:
    """Capacity is what fits at the longest interval, at least one; a configured number stands."""
    assert LoadMeter(LIMITS, 0.05).capacity == int(SHARE * 2.0 / 0.05)
    assert LoadMeter(LIMITS, 100.0).capacity == 1
    fixed = LoadLimits(min_interval_s=0.3, max_interval_s=2.0, max_sessions=7)
    assert LoadMeter(fixed, 100.0).capacity == 7


def test_cost_follows_the_steps() -> None:
    """Each step moves the running cost a little towards its own; many of them all the way."""
    meter = LoadMeter(LIMITS, 0.1)
    meter.observe(0.8, 4)
    assert meter.row_cost_s == pytest.approx(0.1 + SMOOTHING * 0.1)
    for _ in range(200):
        meter.observe(0.8, 4)
    assert meter.row_cost_s == pytest.approx(0.2)


@given(cost_s=st.floats(1e-4, 1.0), n=st.integers(1, 500))
def test_capacity_and_interval_agree(cost_s: float, n: int) -> None:
    """As many speakers as there is capacity for can all be served within the longest interval."""
    meter = LoadMeter(LIMITS, cost_s)
    if 1 < n <= meter.capacity:
        assert n * cost_s / SHARE <= LIMITS.max_interval_s * (1 + 1e-9)
    assert LIMITS.min_interval_s <= meter.interval_s(n) <= LIMITS.max_interval_s
    assert meter.interval_s(n) <= meter.interval_s(n + 1)
