"""Tests of streamer/server/turnstile.py: one at a time."""

from __future__ import annotations

import asyncio
import itertools

from streamer.server.turnstile import Turnstile


async def test_each_has_a_turn_of_its_own() -> None:
    """Something else runs between any two, in the order of their coming; one that is cancelled holds nobody up."""
    turnstile, happened, is_over = Turnstile(), list[str](), asyncio.Event()

    async def come(name: str) -> None:
        await turnstile.pass_through()
        happened.append(name)

    async def others() -> None:
        while not is_over.is_set():
            happened.append("others")
            await asyncio.sleep(0)

    tasks = [asyncio.create_task(come(name)) for name in "abcd"]
    beside = asyncio.create_task(others())
    await asyncio.sleep(0)
    tasks[1].cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    is_over.set()
    await beside

    came = [n for n, name in enumerate(happened) if name != "others"]
    assert [happened[n] for n in came] == ["a", "c", "d"]
    assert all(there - here > 1 for here, there in itertools.pairwise(came))
