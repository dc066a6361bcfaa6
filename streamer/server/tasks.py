"""Coroutines that run side by side."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine


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
    next(task for task in tasks if task in done).result()
