"""Tests of streamer/access/decoding_budget.py: bytes without sound wait, sound pays."""

from __future__ import annotations

import asyncio

import pytest

from benchmarks.scale.clock import run
from streamer.access.decoding_budget import (
    BYTES_PER_SAMPLE,
    FAILURE_BYTES,
    LOOK_S,
    MAX_CREDIT,
    DecodingAccount,
    DecodingBudget,
)


def now_s() -> float:
    """Of the loop."""
    return asyncio.get_running_loop().time()


def test_bytes_without_sound_come_at_the_rate_of_the_caller() -> None:
    """However many connections send them, once the burst is used up."""

    async def main() -> float:
        budget = DecodingBudget(rate=1000, burst=4000)

        async def send() -> None:
            account = DecodingAccount(budget)
            for _ in range(10):
                await account.take(500)

        await asyncio.gather(*(send() for _ in range(4)))
        return now_s()

    # 20,000 bytes, of which the last 500 are still owed
    assert run(main()) == pytest.approx(15.5, abs=LOOK_S)


def test_sound_pays_for_the_bytes_that_it_came_in() -> None:
    """A recording sent as fast as it is taken waits for nothing, whatever its caller owes meanwhile."""

    async def main() -> float:
        budget = DecodingBudget(rate=1000, burst=4000)
        account = DecodingAccount(budget)
        await account.take(4000)
        account.pay(10_000 // BYTES_PER_SAMPLE)
        budget.charge(10_000)
        for _ in range(10):
            await account.take(4000)
            account.pay(4000 // BYTES_PER_SAMPLE + 1)
        return now_s()

    assert run(main()) == 0.0


def test_what_sound_pays_back_is_there_for_the_other_connections() -> None:
    """One that waits goes on, for many recordings begin with pictures at the same time."""

    async def main() -> float:
        budget = DecodingBudget(rate=100, burst=4000)
        first, second = DecodingAccount(budget), DecodingAccount(budget)
        await first.take(9000)
        waiting = asyncio.create_task(second.take(9000))
        await asyncio.sleep(1.0)
        first.pay(9000)
        await waiting
        return now_s()

    assert run(main()) == pytest.approx(1.0, abs=LOOK_S)


def test_sound_pays_no_more_than_its_own_recording_owes() -> None:
    """Hours of cheap silence on one connection buy no garbage on another one, and little on the same."""

    async def main() -> float:
        budget = DecodingBudget(rate=1000, burst=0)
        silent, damaged = DecodingAccount(budget), DecodingAccount(budget)
        silent.pay(100_000_000)
        await damaged.take(1000)
        await damaged.take(1)
        assert now_s() == pytest.approx(1.0, abs=LOOK_S)
        await silent.take(MAX_CREDIT)
        await silent.take(1)
        return now_s()

    assert run(main()) == pytest.approx(1.0, abs=2 * LOOK_S)


def test_a_recording_that_fails_makes_the_next_connection_wait() -> None:
    """However short it was."""

    async def main() -> float:
        budget = DecodingBudget(rate=FAILURE_BYTES, burst=0)
        for _ in range(4):
            account = DecodingAccount(budget)
            await account.take(1)
            account.fail()
        return now_s()

    assert run(main()) == pytest.approx(3.0, abs=4 * LOOK_S)


def test_those_who_wait_are_served_in_turn() -> None:
    """One that leaves meanwhile takes nothing and holds nobody up."""

    async def main() -> list[tuple[str, float]]:
        budget, served = DecodingBudget(rate=1000, burst=0), list[tuple[str, float]]()

        async def wait(name: str) -> None:
            await DecodingAccount(budget).take(1000)
            served.append((name, now_s()))

        waiting = [asyncio.create_task(wait(name)) for name in "abcd"]
        await asyncio.sleep(0.5)
        waiting[1].cancel()
        waiting[2].cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        return served

    served = run(main())

    assert [name for name, _ in served] == ["a", "d"]
    assert [at_s for _, at_s in served] == pytest.approx([0.0, 1.0], abs=LOOK_S)
