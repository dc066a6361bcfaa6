"""Changes that pools of engines tell."""

from __future__ import annotations

import asyncio

from streamer.remote.changes import Changes


async def test_all_who_wait_are_woken_once() -> None:
    """By the next change; who waits after it waits for another."""
    changes = Changes()
    waiting = [asyncio.ensure_future(changes.wait()) for _ in range(2)]
    await asyncio.sleep(0)

    changes.tell()
    await asyncio.gather(*waiting)
    later = asyncio.ensure_future(changes.wait())
    await asyncio.sleep(0)
    assert not later.done()

    changes.tell()
    await later
