"""Changes that any number of tasks wait for: in a pool of engines, that one begins or stops to answer."""

from __future__ import annotations

import asyncio


class Changes:
    """Tells any number of waiting tasks of each change."""

    def __init__(self) -> None:
        self._next = asyncio.Event()

    async def wait(self) -> None:
        """Wait for the next change."""
        await self._next.wait()

    def tell(self) -> None:
        """Wake all tasks that wait now; later ones wait for the next change."""
        change, self._next = self._next, asyncio.Event()
        change.set()
