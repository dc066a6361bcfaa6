"""Token buckets: what a sender may spend at once, and how fast it may go on."""

from __future__ import annotations

from streamer.access.remembered import MAX_REMEMBERED, Remembered


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
            cost: Tokens; below 0: they come back, as far as the bucket holds them.
            now_s: Monotonic time, seconds.
        """
        self._left = self.left(now_s) - cost
        self._then_s = now_s
        return self.wait_s(now_s)

    def take(self, now_s: float) -> float:
        """Take one token and return 0; where less than one is left, take none and return the seconds until it is."""
        missing = 1.0 - self.left(now_s)
        if missing > 0:
            return missing / self._rate
        return self.spend(1.0, now_s)

    def wait_s(self, now_s: float) -> float:
        """Return the seconds until the bucket holds none too few, and take nothing."""
        return max(0.0, -self.left(now_s) / self._rate)

    def left(self, now_s: float) -> float:
        """Return the tokens in the bucket; negative while the sender owes some."""
        return min(self._burst, self._left + max(0.0, now_s - self._then_s) * self._rate)


class Buckets(Remembered[Bucket]):
    """
    A bucket for each caller; that of an unknown caller is full.

    Args:
        rate: Of each bucket.
        burst: Of each bucket.
        max_callers: Buckets that are kept; beyond that the one asked for longest ago is forgotten.
    """

    def __init__(self, rate: float, burst: float, max_callers: int = MAX_REMEMBERED) -> None:
        super().__init__(lambda: Bucket(rate, burst), max_callers)
