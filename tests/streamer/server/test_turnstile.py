"""Tests of streamer/server/turnstile.py: one at a time, with time between."""

from __future__ import annotations

import asyncio
import contextlib
import itertools

import pytest

from benchmarks.scale.clock import SimulatedLoop
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


def test_what_takes_long_leaves_most_of_the_time_to_others() -> None:
    """Work of any length has a fourth of the time, and what comes alone does not wait."""
    loop = SimulatedLoop()
    turnstile, began_s = Turnstile(), list[float]()

    async def work(seconds: float) -> None:
        await turnstile.pass_through()
        began_s.append(loop.time())
        loop.work(seconds)

    async def all_of_them() -> None:
        await asyncio.gather(*map(work, (0.03, 0.01, 0.02)))
        await asyncio.sleep(1.0)
        await work(0.03)

    with contextlib.closing(loop):
        loop.run_until_complete(all_of_them())

    assert began_s == pytest.approx([0.0, 0.12, 0.16, 1.18])
