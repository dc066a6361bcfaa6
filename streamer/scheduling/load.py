"""Load of one machine: the interval between steps and the number of sessions that it can serve. Pure arithmetic."""

from __future__ import annotations

from dataclasses import dataclass

SHARE = 0.6
"""Part of the device's time for the regular steps of speaking sessions. One step in four comes of a pause or the end of
a turn, the event loop needs a part of a CPU too, and the rest is a reserve."""
MAX_STEP_S = 0.4
"""Longest step, seconds: it bounds the rows, because during a step no session takes audio or shows words."""
FULL_LOAD = 1.75
"""Cost of a row when every worker is busy, as a multiple of the idle machine's, until steps under full load have shown
it: workers share memory bandwidth and the interpreter, and later rows have more new audio. 1.4 to 1.9 was measured."""
FULL = 0.75
"""Part of a worker's places from which on its steps show the cost under full load: a step is cheap while few speak."""
HURRIED = 0.5
"""Part of the interval after which a session is due that has waited too long."""
SMOOTHING = 0.1
"""Weight of the newest step in the moving averages of the cost."""
MOST_GROWTH = 2.0
"""Most that a single step counts, as a multiple of the average: so one step that stood still, for a minute or for a
night of suspension, moves the average by a tenth."""


@dataclass(frozen=True, slots=True)
class StepCosts:
    """Device time of a typical step, seconds: a fixed part, the serial passes, and a part for each row."""

    fixed_s: float
    row_s: float

    def step_s(self, n_rows: int) -> float:
        """Device time of a step of `n_rows` rows, seconds."""
        return self.fixed_s + n_rows * self.row_s


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredCosts:
    """Costs of one measurement by two clocks; the same values where the device is no CPU."""

    work: StepCosts
    """By the CPU time of the thread that computes: other work on the machine adds little to it."""
    wall: StepCosts
    """By the clock on the wall: what a session waits for."""
    n_rows: int
    """Rows of the larger ones of the measured steps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadLimits:
    """Bounds of the step interval, seconds."""

    min_interval_s: float
    max_interval_s: float


class LoadMeter:
    """
    Models the cost of a step, and learns it in both directions from the steps of sessions.

    All workers of a machine share one meter: they run the same network on the same cores.

    Args:
        limits: See `LoadLimits`.
        max_batch: Rows of one step at most.
        costs: Of the idle machine.
    """

    def __init__(self, limits: LoadLimits, max_batch: int, costs: StepCosts) -> None:
        self._limits, self._max_batch, self._costs = limits, max_batch, costs
        self._scale = 1.0  # cost of recent steps as a multiple of `costs`
        self._full_scale = FULL_LOAD  # cost of steps under full load as a multiple of `costs`

    @property
    def costs(self) -> StepCosts:
        """Costs of the idle machine: the least that were measured."""
        return self._costs

    @property
    def scale(self) -> float:
        """Cost of recent steps as a multiple of the idle machine's."""
        return self._scale

    def observe(self, step_s: float, n_rows: int, n_speaking: int) -> None:
        """
        Count a step of sessions.

        Args:
            step_s: Its time, seconds.
            n_rows: Its rows.
            n_speaking: Sessions of the worker with an open turn.
        """
        ratio = min(step_s / self._costs.step_s(n_rows), MOST_GROWTH * self._scale)
        is_full = n_speaking >= FULL * self.places
        self._scale = _moved(self._scale, ratio)
        self._full_scale = _moved(self._full_scale, ratio if is_full else max(ratio, self._least_full_scale))

    def calibrate(self, measured: MeasuredCosts) -> None:
        """
        Take over a measurement while nobody speaks: the machine's other work counts as it is now.

        The costs of the idle machine only fall: other work adds to a measurement, and what is dearer for good shows in
        the multiples of them.
        """
        n_rows, before = measured.n_rows, self._costs
        self._costs = least(before, measured.work, n_rows)
        self._scale = measured.wall.step_s(n_rows) / self._costs.step_s(n_rows)
        self._full_scale *= before.step_s(n_rows) / self._costs.step_s(n_rows)
        self._full_scale = max(self._scale, self._least_full_scale)

    @property
    def batch(self) -> int:
        """Rows of a step: at most `max_batch`, no more than fit into `MAX_STEP_S`, at least one."""
        return self._batch_at(self._scale)

    @property
    def row_cost_s(self) -> float:
        """Device time of one row of a full batch, seconds."""
        return self._row_cost_at(self._scale)

    def interval_s(self, n_speaking: int) -> float:
        """New audio after which one of `n_speaking` sessions is due, seconds: longer under load, within the limits."""
        n_steps = -(-n_speaking // self.batch)
        wanted = self._scale * (n_steps * self._costs.fixed_s + n_speaking * self._costs.row_s) / SHARE
        return min(max(wanted, self._limits.min_interval_s), self._limits.max_interval_s)

    def hurried_interval_s(self, n_speaking: int) -> float:
        """The interval of one of them that has waited too long, seconds: half, but no less than without load."""
        return max(HURRIED * self.interval_s(n_speaking), self._limits.min_interval_s)

    @property
    def capacity(self) -> int:
        """Sessions of one worker that can all speak at once at the longest interval, even if nobody speaks now."""
        return max(1, int(self.places))

    @property
    def places(self) -> float:
        """`capacity` before it is rounded: below 1, not even one session is in time."""
        return SHARE * self._limits.max_interval_s / self._row_cost_at(self._full_scale)

    @property
    def _least_full_scale(self) -> float:
        """What few speakers with cheap steps leave of the cost under full load: what is learnt cheaper stays."""
        return min(self._full_scale, FULL_LOAD)

    def _batch_at(self, scale: float) -> int:
        n_rows = int((MAX_STEP_S / scale - self._costs.fixed_s) / self._costs.row_s)
        return max(1, min(n_rows, self._max_batch))

    def _row_cost_at(self, scale: float) -> float:
        return scale * (self._costs.fixed_s / self._batch_at(scale) + self._costs.row_s)


def costs_of(one_s: float, many_s: float, n_rows: int) -> StepCosts:
    """
    Costs of steps of two sizes; `costs_of` the step times that they predict returns the same costs.

    Args:
        one_s: Time of a step of one row, seconds.
        many_s: Time of a step of `n_rows` rows, seconds; no row is believed to add less than `one_s` / (4 * n_rows).
        n_rows: At least 1.
    """
    if n_rows == 1:
        return StepCosts(0.0, one_s)
    row_s = min(max((many_s - one_s) / (n_rows - 1), one_s / (4 * n_rows)), max(one_s, many_s / n_rows))
    return StepCosts(max(one_s - row_s, 0.0), row_s)


def least(one: StepCosts, other: StepCosts, n_rows: int) -> StepCosts:
    """
    The lesser of two measurements, for each size of step by itself.

    Args:
        one: The one measurement.
        other: The other measurement.
        n_rows: Rows of the larger size; the smaller one is a single row.
    """
    one_s, many_s = (min(one.step_s(n), other.step_s(n)) for n in (1, n_rows))
    return costs_of(one_s, many_s, n_rows)


def _moved(average: float, newest: float) -> float:
    return average + SMOOTHING * (newest - average)
