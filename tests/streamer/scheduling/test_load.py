"""Tests of streamer.scheduling.load."""

from __future__ import annotations

import functools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.scheduling.load import (
    FULL,
    FULL_LOAD,
    MAX_STEP_S,
    SHARE,
    SMOOTHING,
    LoadLimits,
    LoadMeter,
    MeasuredCosts,
    StepCosts,
    costs_of,
    least,
)

LIMITS = LoadLimits(min_interval_s=0.3, max_interval_s=2.0)


def meter(fixed_s: float = 0.04, row_s: float = 0.015) -> LoadMeter:
    """Steps of eight rows."""
    return LoadMeter(LIMITS, max_batch=8, costs=StepCosts(fixed_s, row_s))


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
        slow.observe(1.5 * (0.1 + 2 * 0.1), 2, 1)
    assert slow.batch == 1


@given(fixed_s=st.floats(0, 1), row_s=st.floats(0.001, 1))
def test_a_step_ends_in_time(fixed_s: float, row_s: float) -> None:
    """Unless a single row already takes longer."""
    measured = meter(fixed_s, row_s)
    assert measured.batch == 1 or fixed_s + measured.batch * row_s <= MAX_STEP_S * (1 + 1e-9)


def test_the_interval_ends_at_its_limit() -> None:
    """However many speak."""
    assert meter().interval_s(10_000) == 2.0


def test_who_has_waited_too_long_is_due_sooner() -> None:
    """After half the interval, under load alone."""
    assert meter().hurried_interval_s(10_000) == 1.0
    assert meter().hurried_interval_s(1) == meter().interval_s(1) == 0.3


def test_a_step_as_measured_changes_nothing() -> None:
    """Whatever its rows: single rows are dear, and that says nothing about full batches."""
    observed = meter()
    for n_rows in (1, 8, 3):
        observed.observe(0.04 + n_rows * 0.015, n_rows, 1)

    assert observed.row_cost_s == pytest.approx(meter().row_cost_s)


def test_slow_steps_lower_the_capacity_smoothly() -> None:
    """One slow step moves the cost by a part of the difference, many by all of it."""
    slow = meter()
    slow.observe(2 * (0.04 + 8 * 0.015), 8, 1)
    assert slow.row_cost_s == pytest.approx(meter().row_cost_s * (1 + SMOOTHING))

    for _ in range(200):
        slow.observe(2 * (0.04 + 8 * 0.015), 8, 1)
    assert slow.row_cost_s == pytest.approx(2 * meter().row_cost_s, rel=1e-3)
    assert slow.capacity == int(SHARE * 2.0 / slow.row_cost_s)


@given(stood_still_s=st.floats(1, 1e6))
def test_a_step_that_stood_still_counts_as_one_step(stood_still_s: float) -> None:
    """However long a machine was suspended in the middle of a step, its places are nearly what they were."""
    woken = meter()
    woken.observe(stood_still_s, 1, 1)

    assert woken.row_cost_s <= meter().row_cost_s * (1 + SMOOTHING) * (1 + 1e-9)
    assert woken.capacity == pytest.approx(meter().capacity, rel=0.05)


def test_an_idle_machine_counts_with_full_load() -> None:
    """Steps that are cheap while few speak do not let in more than can all speak at once."""
    idle = meter()
    steps(idle, 1.0, n_speaking=1)

    assert idle.capacity == int(SHARE * 2.0 / (FULL_LOAD * meter().row_cost_s))


def test_cheap_steps_under_full_load_are_learnt() -> None:
    """Where all places speak, steps show what full load costs: what is learnt stays when few speak again."""
    cheap = meter()
    steps(cheap, 1.25, n_speaking=cheap.capacity)
    assert meter().capacity < cheap.capacity <= meter().capacity / FULL, "no further than what was seen reaches"
    steps(cheap, 1.25, n_speaking=cheap.capacity)
    learnt = cheap.capacity
    assert learnt == pytest.approx(SHARE * 2.0 / (1.25 * meter().row_cost_s), abs=1)

    steps(cheap, 1.0, n_speaking=1)
    assert cheap.capacity == learnt


@pytest.mark.parametrize("n_speaking", [1, 20])
def test_a_slow_machine_falls_and_recovers(n_speaking: int) -> None:
    """Other work that makes steps dear lowers the places; steps that are cheap again bring them back, few or many."""
    shared = meter()
    steps(shared, 4.0, n_speaking)
    # a step of four rows is all that fits into the longest step then
    assert shared.capacity == pytest.approx(SHARE * 2.0 / (4.0 * (0.04 / 4 + 0.015)), abs=1)

    steps(shared, 1.0 if n_speaking == 1 else FULL_LOAD, n_speaking)
    assert shared.capacity == pytest.approx(meter().capacity, rel=0.15)


@given(load=st.floats(1, 8), dearer=st.floats(1, 3))
def test_a_measurement_at_rest_forgets_other_work(load: float, dearer: float) -> None:
    """Begun under load with costs that were measured too high, and slow since: one idle measurement makes it good."""
    found = meter(dearer * 0.04, dearer * 0.015)
    steps(found, load, n_speaking=1)
    found.calibrate(MeasuredCosts(work=StepCosts(0.04, 0.015), wall=StepCosts(0.04, 0.015), n_rows=4))

    assert (found.capacity, found.batch, found.interval_s(3)) == (meter().capacity, 8, meter().interval_s(3))


@given(load=st.floats(1, 8))
def test_a_measurement_at_rest_sees_other_work(load: float) -> None:
    """The clock on the wall says what a session would wait; what the idle machine can do is not forgotten."""
    shared = meter()
    shared.calibrate(
        MeasuredCosts(work=StepCosts(1.3 * 0.04, 1.3 * 0.015), wall=StepCosts(load * 0.04, load * 0.015), n_rows=4)
    )

    assert (shared.costs.fixed_s, shared.costs.row_s) == pytest.approx((0.04, 0.015))
    assert shared.scale == pytest.approx(load)
    assert shared.capacity <= meter().capacity


@given(one_s=st.floats(0.001, 10), many_s=st.floats(0.001, 100), n_rows=st.integers(1, 64))
def test_the_least_of_a_measurement_and_itself_is_itself(one_s: float, many_s: float, n_rows: int) -> None:
    """Costs that are measured again and again, the same, neither grow nor shrink."""
    costs = costs_of(one_s, many_s, n_rows)
    again = least(costs, costs, n_rows)
    assert costs.row_s > 0
    assert (again.step_s(1), again.step_s(n_rows)) == pytest.approx((costs.step_s(1), costs.step_s(n_rows)))


@given(scales=st.lists(st.floats(1, 20), min_size=2, max_size=20), n_rows=st.integers(1, 32))
def test_the_least_of_measurements_is_that_of_the_idle_machine(scales: list[float], n_rows: int) -> None:
    """Other work adds to each size of step by itself; the least of each size together is what the machine can do."""
    idle = StepCosts(0.04, 0.015)
    found = [
        costs_of(a * idle.step_s(1), b * idle.step_s(n_rows), n_rows)
        for a, b in zip([1.0, *scales], [*scales, 1.0], strict=True)
    ]
    best = functools.reduce(lambda one, other: least(one, other, n_rows), found)
    assert best.step_s(1) >= idle.step_s(1) * (1 - 1e-9)
    assert best.step_s(n_rows) <= max(idle.step_s(n_rows), n_rows * best.step_s(1)) * (1 + 1e-9)


def steps(observed: LoadMeter, ratio: float, n_speaking: int) -> None:
    """Many steps of four rows that take `ratio` times what the idle machine takes."""
    for _ in range(100):
        observed.observe(ratio * (0.04 + 4 * 0.015), 4, n_speaking)


def test_one_session_is_always_admitted() -> None:
    """On a machine that is too slow a late caption is better than none."""
    assert meter(100.0, 100.0).capacity == 1


@given(n=st.integers(1, 500), fixed_s=st.floats(0, 0.1), row_s=st.floats(0.001, 0.1))
def test_more_speakers_never_shorten_the_interval(n: int, fixed_s: float, row_s: float) -> None:
    """The interval grows with the number of speakers."""
    assert meter(fixed_s, row_s).interval_s(n) <= meter(fixed_s, row_s).interval_s(n + 1)
