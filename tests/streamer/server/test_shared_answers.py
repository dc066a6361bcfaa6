"""Tests of streamer/server/shared_answers.py: how often an answer is made."""

from __future__ import annotations

import asyncio

from streamer.server.shared_answers import SharedAnswer
from tests.helpers.waiting import is_waiting


class Counting:
    """Makes answers that say how many there were."""

    def __init__(self) -> None:
        self.n_made = 0

    async def make(self) -> bytes:
        """The number of the answer."""
        self.n_made += 1
        return str(self.n_made).encode()


async def test_all_who_wait_get_the_same_answer() -> None:
    """However many ask at once."""
    counting = Counting()
    shared = SharedAnswer(counting.make)

    assert await asyncio.gather(*(shared.get() for _ in range(100))) == [b"1"] * 100


async def test_an_answer_is_never_older_than_its_question() -> None:
    """After a pause it is made anew at once."""
    now_s = 0.0
    shared = SharedAnswer(Counting().make, pause_s=60.0, clock=lambda: now_s)
    assert await shared.get() == b"1"
    now_s = 60.0
    assert await shared.get() == b"2"


async def test_before_the_pause_is_over_a_question_waits() -> None:
    """Another one that is cancelled takes nothing from it."""
    shared = SharedAnswer(Counting().make, pause_s=60.0, clock=lambda: 0.0)
    await shared.get()
    waiting, cancelled = (asyncio.create_task(shared.get()) for _ in range(2))
    await asyncio.sleep(0)
    cancelled.cancel()

    assert await is_waiting(waiting)
    waiting.cancel()
