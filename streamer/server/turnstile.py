"""A turnstile of the event loop: what costs it many milliseconds comes one at a time, with time between for others."""

from __future__ import annotations

import asyncio

REST = 3.0
"""Before the next one others have this times as long as one took: together they take a fourth of the loop's time."""


class Turnstile:
    """
    Each that passes has a turn of the event loop of its own, in the order in which they came.

    A thread that computes needs the interpreter for moments, hundreds of times in a step; where the loop is busy all
    the time, each of them waits.
    """

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._opens_s = 0.0

    async def pass_through(self) -> None:
        """Wait for a turn, which begins when this returns. Cancelling is safe: the next one has its turn."""
        loop = asyncio.get_running_loop()
        async with self._lock:
            await asyncio.sleep(max(0.0, self._opens_s - loop.time()))
            loop.call_soon(self._count, loop.time())  # behind all that the turn does

    def _count(self, began_s: float) -> None:
        now_s = asyncio.get_running_loop().time()
        self._opens_s = now_s + REST * (now_s - began_s)
