"""Tests of streamer/scheduling/calibration.py, with an engine that moves its own clocks."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import cast

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from streamer.scheduling.calibration import MOST_ROUNDS, PROBE_WINDOWS_S, Clocks, CostProbe, measure_costs
from streamer.scheduling.load import StepCosts
from streamer.step import Engine, StepRequest

N_WINDOWS = len(PROBE_WINDOWS_S)


class SteppingClock:
    """An engine whose steps cost a fixed part and one for each row, on clocks that only it moves."""

    def __init__(self, fixed_s: float, row_s: float, factors: Sequence[float] = (0.1, 3.0, 1.0, 2.0)) -> None:
        self.work_s, self.wall_s, self.batches = 0.0, 0.0, list[list[StepRequest]]()
        self.forgotten = set[str]()
        self._costs, self._factors = StepCosts(fixed_s, row_s), factors
        self.load = 1.0

    def step(self, batch: Sequence[StepRequest]) -> None:
        """By default slower each time but the third of four: load. The first, cold, is fast by mistake."""
        factor = self._factors[len(self.batches) % len(self._factors)]
        self.batches.append(list(batch))
        self.work_s += factor * self._costs.step_s(len(batch))
        self.wall_s += self.load * factor * self._costs.step_s(len(batch))

    def forget(self, session: str) -> None:
        """Noted."""
        self.forgotten.add(session)

    def measure(self, max_batch: int) -> StepCosts:
        """As at the start of the daemon."""
        clocks = Clocks(lambda: self.work_s, lambda: self.wall_s)
        return measure_costs(cast(Engine, self), CostProbe(5, max_batch), clocks)


@pytest.mark.parametrize(
    ("cost", "max_batch", "found"),
    [
        ((0.08, 0.02), 8, (0.08, 0.02)),
        # rows that cost nothing beside the first are not believed: a quarter of a whole row is the least
        ((0.08, 0.0), 8, (0.08 - 0.08 / 16, 0.08 / 16)),
        ((0.08, 0.02), 1, (0.0, 0.1)),
    ],
)
def test_costs_are_taken_apart(cost: tuple[float, float], max_batch: int, found: tuple[float, float]) -> None:
    """What a step costs by itself and for each row, from the fastest of a few steps of one row and of several."""
    engine = SteppingClock(*cost)

    costs = engine.measure(max_batch)

    assert (costs.fixed_s, costs.row_s) == pytest.approx(found)
    assert {len(batch) for batch in engine.batches} == {1, min(4, max_batch)}


def test_one_step_proves_that_decoding_works() -> None:
    """It measures nothing, and its window is forgotten."""
    engine = SteppingClock(0.08, 0.02)

    CostProbe(5, 8).prove(cast(Engine, engine))

    [[request]] = engine.batches
    assert engine.forgotten == {request.session}


def test_costs_are_those_of_growing_windows() -> None:
    """Each probe goes on with the window of the one before, a second longer, and none is left behind."""
    engine = SteppingClock(0.08, 0.02)

    engine.measure(2)

    windows = [batch[-1].log_mel for batch in engine.batches[N_WINDOWS : 2 * N_WINDOWS]]
    assert all(torch.equal(b[:, : a.shape[1]], a) and b.shape[1] == a.shape[1] + 100 for a, b in pairwise(windows))
    assert engine.forgotten == {request.session for batch in engine.batches for request in batch}


def test_the_least_of_several_measurements_counts() -> None:
    """One measurement that other work has disturbed is followed by more, until the least was seen twice."""
    quiet = [0.1, 1.0, 1.0, 1.0] * 2
    disturbed = [0.1, 3.0, 3.0, 3.0] * 2
    engine = SteppingClock(0.08, 0.02, [*disturbed, *quiet, *quiet])
    engine.load = 0.5

    costs = engine.measure(8)

    assert (costs.fixed_s, costs.row_s) == pytest.approx((0.08, 0.02))
    assert len(engine.batches) == 3 * 2 * N_WINDOWS


def test_a_slow_machine_is_measured_once() -> None:
    """Where one measurement takes longer than a start may wait, there is no second one."""
    engine = SteppingClock(0.08, 0.02, [1.0, 2.0, 3.0])
    engine.load = 10.0

    engine.measure(8)

    assert len(engine.batches) == 2 * N_WINDOWS


@given(factors=st.lists(st.floats(1, 10), min_size=8 * MOST_ROUNDS, max_size=8 * MOST_ROUNDS))
def test_measurements_at_the_start_are_bounded(factors: list[float]) -> None:
    """Whatever disturbs them, they end; they never find less than the machine can do."""
    engine = SteppingClock(0.08, 0.02, factors)

    costs = engine.measure(8)

    assert len(engine.batches) <= MOST_ROUNDS * 2 * N_WINDOWS
    assert costs.step_s(4) >= StepCosts(0.08, 0.02).step_s(4) * (1 - 1e-9)
