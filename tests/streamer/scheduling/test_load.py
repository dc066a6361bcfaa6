"""Tests of streamer.scheduling.load."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.scheduling.load import FULL_LOAD, MAX_STEP_S, SHARE, SMOOTHING, LoadLimits, LoadMeter

LIMITS = LoadLimits(min_interval_s=0.3, max_interval_s=2.0)


def meter(fixed_s: float = 0.04, row_s: float = 0.015) -> LoadMeter:
    """Steps of eight rows."""
    return LoadMeter(LIMITS, max_batch=8, fixed_s=fixed_s, row_s=row_s)


def test_few_sessions_get_the_shortest_interval() -> None:
    """While the device is not busy, nobody waits for its sake."""
    assert meter().interval_s(0) == meter().interval_s(1) == 0.3


def test_the_interval_covers_all_steps_of_a_round() -> None:
    """Nine speakers need two steps and nine rows, within the share of the device."""
    assert meter(0.1, 0.03).interval_s(9) == pytest.approx((2 * 0.1 + 9 * 0.03) / SHARE)


def test_steps_are_kept_short() -> None:
    """A step takes what may be in one, or only what it can do in time; slower than expected, fewer; one always."""
    assert meter(0.1, 0.03).batch == 8
    assert meter(0.1, 0.1).batch == 3
    assert meter(1.0, 1.0).batch == 1

    slow = meter(0.1, 0.1)
    for _ in range(200):
        slow.observe(1.5 * (0.1 + 2 * 0.1), 2)
    assert slow.batch == 1


@given(fixed_s=st.floats(0, 1), row_s=st.floats(0.001, 1))
def test_a_step_ends_in_time(fixed_s: float, row_s: float) -> None:
    """Unless a single row already takes longer."""
    measured = meter(fixed_s, row_s)
    assert measured.batch == 1 or fixed_s + measured.batch * row_s <= MAX_STEP_S * (1 + 1e-9)


def test_the_interval_ends_at_its_limit() -> None:
    """However many speak."""
    assert meter().interval_s(10_000) == 2.0


def test_a_step_as_measured_changes_nothing() -> None:
    """Whatever its rows: single rows are dear, and that says nothing about full batches."""
    observed = meter()
    for n_rows in (1, 8, 3):
        observed.observe(0.04 + n_rows * 0.015, n_rows)

    assert observed.row_cost_s == pytest.approx(meter().row_cost_s)


def test_slow_steps_lower_the_capacity_smoothly() -> None:
    """One slow step moves the cost by a part of the difference, many by all of it."""
    slow = meter()
    slow.observe(2 * (0.04 + 8 * 0.015), 8)
    assert slow.row_cost_s == pytest.approx(meter().row_cost_s * (1 + SMOOTHING))

    for _ in range(200):
        slow.observe(2 * (0.04 + 8 * 0.015), 8)
    assert slow.row_cost_s == pytest.approx(2 * meter().row_cost_s, rel=1e-3)
    assert slow.capacity == int(SHARE * 2.0 / slow.row_cost_s)


def test_an_idle_machine_counts_with_full_load() -> None:
    """Steps that are cheap while few speak do not let in more than can all speak at once."""
    idle = meter()
    for _ in range(200):
        idle.observe(0.04 + 0.015, 1)

    assert idle.capacity == int(SHARE * 2.0 / (FULL_LOAD * meter().row_cost_s))


def test_one_session_is_always_admitted() -> None:
    """On a machine that is too slow a late caption is better than none."""
    assert meter(100.0, 100.0).capacity == 1


@given(n=st.integers(1, 500), fixed_s=st.floats(0, 0.1), row_s=st.floats(0.001, 0.1))
def test_more_speakers_never_shorten_the_interval(n: int, fixed_s: float, row_s: float) -> None:
    """The interval grows with the number of speakers."""
    assert meter(fixed_s, row_s).interval_s(n) <= meter(fixed_s, row_s).interval_s(n + 1)
