"""Shares answers that take long to make: one for all requests that wait, never one from before a request."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

PAUSE_S = 0.1
"""Between two answers: the metrics take 8 ms, so a caller who asks without pause gets a twelfth of the event loop."""


class SharedAnswer:
    """
    Makes one answer for all requests that come before it is made, and pauses before the next one.

    Args:
        make: Makes the answer.
        pause_s: Shortest time between two answers, seconds.
        clock: Monotonic time, seconds.
    """

    def __init__(
        self,
        make: Callable[[], Awaitable[bytes]],
        pause_s: float = PAUSE_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._make, self._pause_s, self._clock = make, pause_s, clock
        self._made_s = float("-inf")
        self._next: asyncio.Task[bytes] | None = None

    async def get(self) -> bytes:
        """An answer that was made after the call. Cancelling takes it from nobody else."""
        if self._next is None:
            self._next = asyncio.create_task(self._make_later(), name="shared answer")
        return await asyncio.shield(self._next)

    async def _make_later(self) -> bytes:
        await asyncio.sleep(max(0.0, self._made_s + self._pause_s - self._clock()))
        self._next, self._made_s = None, self._clock()
        return await self._make()
