"""Tests of streamer/engine/calibration.py, with an engine that moves its own clock."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import cast

import pytest
import torch

from streamer.engine.calibration import measure_costs
from streamer.engine.engine import WhisperEngine
from streamer.engine.options import EngineOptions
from streamer.step import StepRequest


class SteppingClock:
    """An engine whose steps cost a fixed part and one for each row, on a clock that only it moves."""

    def __init__(self, fixed_s: float, row_s: float, max_batch: int) -> None:
        self.now_s, self.batches = 0.0, list[list[StepRequest]]()
        self.forgotten = set[str]()
        self.options = EngineOptions(max_batch=max_batch)
        self._fixed_s, self._row_s = fixed_s, row_s

    def step(self, batch: Sequence[StepRequest]) -> None:
        """Slower each time but the third of four: load on the machine. The first, cold, is fast by mistake."""
        place = len(self.batches) % 4
        self.batches.append(list(batch))
        self.now_s += (0.1, 3.0, 1.0, 2.0)[place] * (self._fixed_s + len(batch) * self._row_s)

    def forget(self, session: str) -> None:
        """Noted."""
        self.forgotten.add(session)

    def clock(self) -> float:
        """Seconds of steps."""
        return self.now_s


@pytest.mark.parametrize(
    ("cost", "max_batch", "found"),
    [
        ((0.08, 0.02), 8, (0.08, 0.02)),
        # rows that cost nothing beside the first are not believed: a quarter of a whole row is the least
        ((0.08, 0.0), 8, (0.08, 0.08 / 16)),
        ((0.08, 0.02), 1, (0.0, 0.1)),
    ],
)
def test_costs_are_taken_apart(cost: tuple[float, float], max_batch: int, found: tuple[float, float]) -> None:
    """What a step costs by itself and for each row, from the fastest of a few steps of one row and of several."""
    engine = SteppingClock(*cost, max_batch)

    assert measure_costs(cast(WhisperEngine, engine), 5, engine.clock) == pytest.approx(found)
    assert {len(batch) for batch in engine.batches} == {1, min(4, max_batch)}


def test_costs_are_those_of_growing_windows() -> None:
    """Each probe goes on with the window of the one before, a second longer, and none is left behind."""
    engine = SteppingClock(0.08, 0.02, 2)

    measure_costs(cast(WhisperEngine, engine), 5, engine.clock)

    windows = [batch[-1].log_mel for batch in engine.batches[4:]]
    assert all(torch.equal(b[:, : a.shape[1]], a) and b.shape[1] == a.shape[1] + 100 for a, b in pairwise(windows))
    assert engine.forgotten == {request.session for batch in engine.batches for request in batch}
