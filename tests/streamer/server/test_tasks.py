"""Tests of streamer/server/tasks.py."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Iterator

import pytest

from streamer.server.tasks import run_until_first


async def test_run_until_first_raises_what_ended_it() -> None:
    """The other is cancelled, and has ended before the call returns."""
    cleaned: list[str] = []

    async def wait() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cleaned.append("waiter")

    async def fail() -> None:
        await asyncio.sleep(0)
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        await run_until_first(wait(), fail())

    assert cleaned == ["waiter"]


class BrokenError(Exception):
    """Is raised."""


@pytest.mark.usefixtures("uncollected")
async def test_what_ended_it_is_freed_at_once() -> None:
    """With all that it holds: of a message that breaks a protocol nothing stays until a search for garbage."""

    async def wait() -> None:
        await asyncio.Event().wait()

    async def fail() -> None:
        raise BrokenError

    try:
        await run_until_first(wait(), fail())
    except BrokenError as error:
        freed = weakref.ref(error)
    await asyncio.sleep(0)  # what was due for the tasks has run

    assert freed() is None


@pytest.fixture
def uncollected() -> Iterator[None]:
    """No collection of garbage meanwhile."""
    gc.disable()
    yield
    gc.enable()
