"""The number of engines of a cluster, from the share of time for which their devices are busy. Pure."""

from __future__ import annotations

from collections.abc import Sequence

GROWS_AT = 0.5
"""
Mean share of the devices' time above which there shall be one engine more.

Step intervals stretch from about 0.6 on (`load.SHARE`), so captions are not late yet.
"""
GROWS_AFTER_S = 10.0
"""Time for which it must be so, seconds."""
SHRINKS_AT = 0.3
"""Share that one engine less would have, below which there shall be one less."""
SHRINKS_AFTER_S = 300.0
"""Time for which it must be so, seconds: an engine takes a while to start, and a pause is no evening."""


class Scaling:
    """
    Decides on the number of engines, one more or one less at a time.

    Args:
        least: Engines at least.
        most: Engines at most.
    """

    def __init__(self, least: int, most: int) -> None:
        self._least, self._most = least, max(least, most)
        self._tendency = 0
        self._since_s = 0.0

    def wanted(self, n: int, shares: Sequence[float], now_s: float) -> int:
        """
        The wanted number of engines.

        Args:
            n: Engines that there are, those that start among them.
            shares: Share of the device's time of each that serves.
            now_s: Monotonic time, seconds.
        """
        tendency = self._of(n, shares)
        if tendency != self._tendency:
            self._tendency, self._since_s = tendency, now_s
        if tendency == 0 or now_s - self._since_s < (GROWS_AFTER_S if tendency > 0 else SHRINKS_AFTER_S):
            return n
        self._tendency = 0
        return n + tendency

    def _of(self, n: int, shares: Sequence[float]) -> int:
        """1 for more, -1 for less. While one of them starts or is away nothing is known of the number."""
        if len(shares) != n or not shares:
            return 0
        if n < self._most and sum(shares) / n > GROWS_AT:
            return 1
        return -1 if n > self._least and sum(shares) / (n - 1) < SHRINKS_AT else 0
