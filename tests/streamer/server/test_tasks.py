"""Tests of streamer/server/tasks.py."""

from __future__ import annotations

import asyncio

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
