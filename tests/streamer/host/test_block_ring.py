"""Tests of streamer/host/block_ring.py."""

from __future__ import annotations

import asyncio
import itertools

import numpy as np
import pytest

from streamer.audio.pcm import Samples
from streamer.errors import CaptureError
from streamer.host.block_ring import BlockRing
from tests.helpers.waiting import is_waiting


def block(value: int, n: int = 4) -> Samples:
    """So many samples of one value."""
    return np.full(n, value, np.float32)


async def test_blocks_of_another_thread_come_in_order() -> None:
    """Whoever waits is woken by the first."""
    ring = BlockRing()
    waiting = asyncio.create_task(ring.get())
    assert await is_waiting(waiting)

    await asyncio.to_thread(lambda: [ring.put(block(n)) for n in range(3)])

    assert [int((await taken)[0]) for taken in (waiting, ring.get(), ring.get())] == [0, 1, 2]


async def test_a_full_ring_drops_its_oldest_block() -> None:
    """A microphone cannot wait; what was lost is counted in samples."""
    ring = BlockRing(2)
    for n, length in enumerate((5, 4, 4, 4)):
        ring.put(block(n, length))

    assert ring.dropped_samples == 9
    assert [int((await ring.get())[0]) for _ in range(2)] == [2, 3]


async def test_a_driver_that_lost_samples_is_counted() -> None:
    """It does not say how many."""
    ring = BlockRing()
    for overflowed in (False, True, True):
        ring.put(block(0), overflowed=overflowed)

    assert (ring.n_overflows, ring.dropped_samples) == (2, 0)


async def test_a_device_that_stopped_is_an_error_behind_its_last_block() -> None:
    """Nothing that it said is lost."""
    ring = BlockRing()
    ring.put(block(7))
    ring.finish()

    assert (await ring.get())[0] == 7
    with pytest.raises(CaptureError, match="the device has stopped"):
        await ring.get()


async def test_waiting_can_be_cancelled() -> None:
    """The block that comes then is for the next one who asks."""
    ring = BlockRing()
    waiting = asyncio.create_task(ring.get())
    await is_waiting(waiting)
    waiting.cancel()
    ring.put(block(7))
    await asyncio.gather(waiting, return_exceptions=True)

    assert (await ring.get())[0] == 7


async def test_the_times_of_the_first_and_of_the_newest_block() -> None:
    """By its clock; None before there is any."""
    seconds = itertools.count(100)
    ring = BlockRing(clock=lambda: float(next(seconds)))
    assert (ring.first_s, ring.last_s) == (None, None)
    for n in range(3):
        ring.put(block(n))

    assert (ring.first_s, ring.last_s) == (100.0, 102.0)
