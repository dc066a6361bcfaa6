"""Lets work through that takes a while in one piece, one at a time: between two of them others have their turn."""

from __future__ import annotations

import asyncio


class Turnstile:
    """Each that passes has a turn of the event loop of its own, in the order in which they came."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()

    async def pass_through(self) -> None:
        """Wait for a turn, which begins when this returns. Cancelling is safe: the next one has its turn."""
        async with self._lock:
            await asyncio.sleep(0)
