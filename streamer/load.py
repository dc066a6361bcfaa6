"""How busy the device is: the interval between steps and the number of sessions it can bear. Pure arithmetic."""

from __future__ import annotations

from dataclasses import dataclass

SHARE = 0.75
"""Part of the device's time given to steps of speaking sessions; the rest is for hearing, finals and bad luck."""
SMOOTHING = 0.1
"""Weight of the newest step in the running cost."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadLimits:
    """Bounds of the step interval, and of the sessions."""

    min_interval_s: float
    max_interval_s: float
    max_sessions: int
    """0: as many as the measured cost allows at the longest interval."""


class LoadMeter:
    """
    Keeps the running cost of one row of a step.

    Args:
        limits: See `LoadLimits`.
        row_cost_s: Seconds of device time for one row, measured at start-up.
    """

    def __init__(self, limits: LoadLimits, row_cost_s: float) -> None:
        self._limits = limits
        self.row_cost_s = row_cost_s

    def observe(self, step_s: float, n_rows: int) -> None:
        """A step of `n_rows` rows took `step_s` seconds."""
        self.row_cost_s += SMOOTHING * (step_s / n_rows - self.row_cost_s)

    def interval_s(self, n_speaking: int) -> float:
        """New audio after which a speaking session is due: longer under load, never beyond the limit."""
        wanted = n_speaking * self.row_cost_s / SHARE
        return min(max(wanted, self._limits.min_interval_s), self._limits.max_interval_s)

    @property
    def capacity(self) -> int:
        """Sessions that can all speak at once at the longest interval."""
        if self._limits.max_sessions:
            return self._limits.max_sessions
        return max(1, int(SHARE * self._limits.max_interval_s / self.row_cost_s))
