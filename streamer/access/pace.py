"""Token buckets: what a sender may spend at once, and how fast it may go on."""

from __future__ import annotations


class Bucket:
    """
    A token bucket that may be overdrawn: the sender is served, and then waits until the debt is paid.

    Args:
        rate: Tokens that come back each second.
        burst: Tokens of a full bucket, as it is at the beginning.
    """

    def __init__(self, rate: float, burst: float) -> None:
        self._rate, self._burst = rate, burst
        self._left, self._then_s = burst, 0.0

    def spend(self, cost: float, now_s: float) -> float:
        """
        Take tokens, and return the seconds until the bucket holds none too few; 0: the sender may go on at once.

        Args:
            cost: Tokens, from 0.
            now_s: Monotonic time, seconds.
        """
        self._left = self.left(now_s) - cost
        self._then_s = now_s
        return max(0.0, -self._left / self._rate)

    def left(self, now_s: float) -> float:
        """Return the tokens in the bucket; negative while the sender owes some."""
        return min(self._burst, self._left + max(0.0, now_s - self._then_s) * self._rate)
