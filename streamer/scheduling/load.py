"""Load of one device: the interval between steps and the number of sessions that it can serve. Pure arithmetic."""

from __future__ import annotations

from dataclasses import dataclass

SHARE = 0.6
"""Part of the device's time for the regular steps of speaking sessions. One step in four comes of a pause or the end of
a turn, the event loop needs a part of a CPU too, and the rest is a reserve."""
MAX_STEP_S = 0.4
"""Longest step, seconds: it bounds the rows, because during a step no session takes audio or shows words."""
FULL_LOAD = 1.75
"""Least cost of a row when every worker is busy, as a multiple of the measurement at start-up: workers share memory
bandwidth and the interpreter, and later rows have more new audio. 1.4 to 1.9 was measured."""
SMOOTHING = 0.1
"""Weight of the newest step in the moving average of the cost."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadLimits:
    """Bounds of the step interval, seconds."""

    min_interval_s: float
    max_interval_s: float


class LoadMeter:
    """
    Models the cost of a step: a fixed part, the serial passes, and a part for each row.

    Args:
        limits: See `LoadLimits`.
        max_batch: Rows of one step at most.
        fixed_s: Device time of the fixed part of a step, seconds, measured at start-up.
        row_s: Device time of each row, seconds, measured at start-up.
    """

    def __init__(self, limits: LoadLimits, max_batch: int, fixed_s: float, row_s: float) -> None:
        self._limits, self._max_batch = limits, max_batch
        self._fixed_s, self._row_s = fixed_s, row_s
        self._scale = 1.0  # cost of recent steps as a multiple of the measurement at start-up

    def observe(self, step_s: float, n_rows: int) -> None:
        """Count a step of `n_rows` rows that took `step_s` seconds."""
        self._scale += SMOOTHING * (step_s / (self._fixed_s + n_rows * self._row_s) - self._scale)

    @property
    def batch(self) -> int:
        """Rows of a step: at most `max_batch`, no more than fit into `MAX_STEP_S`, at least one."""
        n_rows = int((MAX_STEP_S / self._scale - self._fixed_s) / self._row_s)
        return max(1, min(n_rows, self._max_batch))

    @property
    def row_cost_s(self) -> float:
        """Device time of one row of a full batch, seconds."""
        return self._scale * (self._fixed_s / self.batch + self._row_s)

    def interval_s(self, n_speaking: int) -> float:
        """New audio after which one of `n_speaking` sessions is due, seconds: longer under load, within the limits."""
        n_steps = -(-n_speaking // self.batch)
        wanted = self._scale * (n_steps * self._fixed_s + n_speaking * self._row_s) / SHARE
        return min(max(wanted, self._limits.min_interval_s), self._limits.max_interval_s)

    @property
    def capacity(self) -> int:
        """Sessions that can all speak at once at the longest interval, even if the device is idle now."""
        full_row_cost_s = self.row_cost_s * max(1.0, FULL_LOAD / self._scale)
        return max(1, int(SHARE * self._limits.max_interval_s / full_row_cost_s))
