"""Coroutines that run side by side, none of them for long at a time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine

SLICE_S = 0.001
"""Seconds for which the work of one client may hold the event loop: dozens may work in one turn of it."""


class TimeSlice:
    """Lets other tasks run once a task has run for SLICE_S; awaiting what is already there lets none of them run."""

    def __init__(self) -> None:
        self._began_s = time.monotonic()

    async def give_way(self) -> None:
        """Let other tasks run if the slice is used up; then another one begins."""
        if time.monotonic() - self._began_s > SLICE_S:
            await asyncio.sleep(0)
            self._began_s = time.monotonic()


async def run_until_first(*coroutines: Coroutine[object, object, None]) -> None:
    """
    Run coroutines side by side until one ends, cancel the others, and raise what the first raised.

    Cancelling cancels all of them. The call returns only after every coroutine has ended.
    """
    tasks = [asyncio.create_task(coroutine) for coroutine in coroutines]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    # of two that ended at the same time, the one named first counts
    first = next(task for task in tasks if task in done)
    try:
        first.result()
    finally:
        # what it raises would hold them, and they it, and with it the last message until a search for garbage
        del tasks, task, done, first
