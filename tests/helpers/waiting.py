"""What tasks of the event loop do while nothing comes from outside: as far as they can get, and no further."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

TURNS = 1000
"""Turns of the event loop: many more than any chain of callbacks in these tests is long."""


async def until_idle() -> None:
    """Let every task run until it waits for something that does not come."""
    for _ in range(TURNS):
        await asyncio.sleep(0)


async def is_waiting(task: asyncio.Future[None]) -> bool:
    """Whether a task still waits when nothing else has anything to do."""
    await until_idle()
    return not task.done()


async def until(condition: Callable[[], object], at_most_s: float = 20.0) -> None:
    """
    Wait until something is so that another process or thread brings about, and that no event tells.

    Raises:
        TimeoutError: It is not so in time.
    """
    async with asyncio.timeout(at_most_s):
        while not condition():  # noqa: ASYNC110 - no event tells it
            await asyncio.sleep(0.02)
