"""What tasks of the event loop do while nothing comes from outside: as far as they can get, and no further."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

TURNS = 1000
"""Turns of the event loop: many more than any chain of callbacks in these tests is long."""


class TurnCount:
    """Turns of the event loop so far."""

    n = 0

    async def run(self) -> None:
        """Count until cancelled."""
        while True:
            await asyncio.sleep(0)
            self.n += 1


@asynccontextmanager
async def counted_turns() -> AsyncIterator[TurnCount]:
    """Count the turns of the event loop for the length of a block."""
    count = TurnCount()
    counting = asyncio.create_task(count.run())
    try:
        yield count
    finally:
        counting.cancel()


async def until_idle(turns: int = TURNS) -> None:
    """Let every task run until it waits for something that does not come; `turns`: fewer where many tests do so."""
    for _ in range(turns):
        await asyncio.sleep(0)


async def is_waiting(task: asyncio.Future[None]) -> bool:
    """Whether a task still waits when nothing else has anything to do."""
    await until_idle()
    return not task.done()


async def until(condition: Callable[[], object], at_most_s: float = 60.0) -> None:
    """
    Wait until something is so that another process or thread brings about, and that no event tells.

    Raises:
        TimeoutError: It is not so in time.
    """
    async with asyncio.timeout(at_most_s):
        while not condition():  # noqa: ASYNC110 - no event tells it
            await asyncio.sleep(0.02)
