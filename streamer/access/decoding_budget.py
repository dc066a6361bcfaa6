"""
What decoding may cost a caller: bytes of live recordings out of which no sound comes wait for their turn.

Damaged recordings cost FFmpeg up to 0.1 s of processor time a megabyte and end in an error, and the next connection
begins at once. So bytes are paid for before they are decoded, from a bucket that all connections of a caller share, and
are paid back by the sound that comes out of them. A recording with sound pays for itself and waits for nobody.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from streamer.access.token_buckets import Bucket

BYTES_PER_S, BURST_BYTES = 524_288, 4_194_304
"""Bytes without sound that are decoded for one caller: each second, and at once."""
BYTES_PER_SAMPLE = 64
"""Bytes that a sample at 16 kHz pays: recordings of 8 Mbit/s, with pictures, pay for themselves."""
MAX_CREDIT = 1_048_576
"""Bytes that a connection may have paid before it sends them: as many as FFmpeg reads to find a format."""
FAILURE_BYTES = 262_144
"""What a recording that cannot be decoded costs beside its bytes: two connections a second may end so."""
LOOK_S = 0.02
"""Between two looks of whoever is next, seconds: others may have paid bytes back."""


class DecodingBudget:
    """
    Of one caller. Whoever waits is served in turn; the clock is that of the event loop.

    Args:
        rate: Bytes each second.
        burst: Bytes at once.
    """

    def __init__(self, rate: float = BYTES_PER_S, burst: float = BURST_BYTES) -> None:
        self._bucket = Bucket(rate, burst)
        self._turn = asyncio.Lock()

    async def take(self, n_bytes: int, is_gone: Callable[[], bool]) -> bool:
        """
        Wait until the caller owes nothing, then take bytes. Cancelling is safe: then none are taken.

        Args:
            n_bytes: To be taken.
            is_gone: Whether the client has left: then nobody waits for it.

        Returns:
            Whether they were taken.
        """
        async with self._turn:
            while not is_gone():
                if self._bucket.wait_s(_now_s()) <= 0:
                    self.charge(n_bytes)
                    return True
                await asyncio.sleep(LOOK_S)
        return False

    def charge(self, n_bytes: int) -> None:
        """Take bytes, and let whoever comes next wait."""
        self._bucket.spend(n_bytes, _now_s())

    def give_back(self, n_bytes: int) -> None:
        """Return bytes that were taken."""
        self._bucket.spend(-n_bytes, _now_s())


class DecodingAccount:
    """
    Of one connection.

    Args:
        budget: Of its caller.
        is_gone: Whether its client has left.
    """

    def __init__(self, budget: DecodingBudget, is_gone: Callable[[], bool] = lambda: False) -> None:
        self._budget, self._is_gone = budget, is_gone
        self._n_owed = self._credit = 0
        """Bytes that the budget has paid for this connection; bytes that are paid before they come."""

    async def take(self, n_bytes: int) -> bool:
        """
        Pay for bytes before they are decoded; waits where the caller owes. Cancelling is safe: nothing is paid.

        Returns:
            Whether they are to be decoded; else the client has left meanwhile.
        """
        beyond = n_bytes - self._credit
        if beyond > 0:
            if not await self._budget.take(beyond, self._is_gone):
                return False
            self._n_owed += beyond
        self._credit = max(0, -beyond)
        return True

    def pay(self, n_samples: int) -> None:
        """Pay with sound: first what is owed, then what comes."""
        n_bytes = BYTES_PER_SAMPLE * n_samples
        n_back = min(n_bytes, self._n_owed)
        self._n_owed -= n_back
        if n_back:
            self._budget.give_back(n_back)
        self._credit = min(MAX_CREDIT, self._credit + n_bytes - n_back)

    def fail(self) -> None:
        """Charge a recording that cannot be decoded."""
        self._budget.charge(FAILURE_BYTES)


def _now_s() -> float:
    return asyncio.get_running_loop().time()
