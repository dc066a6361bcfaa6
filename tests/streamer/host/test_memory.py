"""Free memory given back to the system."""

from __future__ import annotations

import asyncio
import gc
import platform
import weakref

import numpy as np
import psutil
import pytest

from streamer.host import memory
from streamer.host.memory import collect_forever, give_back, give_back_forever, keep_for_good, resident_bytes

MB = 2**20


def test_the_memory_of_this_process_is_told() -> None:
    """As others see it."""
    assert resident_bytes() == pytest.approx(psutil.Process().memory_info().rss, rel=0.01)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="no other C library is known to need it")
def test_holes_between_blocks_in_use_go_back_to_the_system() -> None:
    blocks = [np.ones(16 * 1024, np.float32) for _ in range(4096)]  # 256 MB in blocks that come from the heap
    kept = blocks[::64]
    del blocks
    before = psutil.Process().memory_info().rss
    assert give_back()
    assert before - psutil.Process().memory_info().rss > 128 * MB
    assert all(block.sum() == len(block) for block in kept)


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    assert not give_back()


async def test_it_is_done_until_cancelled() -> None:
    task = asyncio.create_task(give_back_forever(0.0))
    await asyncio.sleep(0)
    assert not task.done()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_what_is_kept_for_good_is_not_searched() -> None:
    """Objects that are there are out of the collector's sight; later ones are collected as before."""
    kept = [[]]
    try:
        keep_for_good()
        assert not any(found is kept for found in gc.get_objects())
        later = [[]]
        assert any(found is later for found in gc.get_objects())
    finally:
        gc.unfreeze()


class Circle:
    """Garbage once nobody else holds it."""

    def __init__(self) -> None:
        self.itself = self


@pytest.mark.parametrize(
    ("most_searched", "patience", "is_found"), [(10**9, 10, True), (0, 2, True), (0, 10**9, False)]
)
async def test_old_garbage_is_searched_for_at_its_time(
    most_searched: int, patience: int, is_found: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every interval, but among many objects less often; Python's own searches of old objects are off meanwhile."""
    monkeypatch.setattr(memory, "MOST_SEARCHED", most_searched)
    monkeypatch.setattr(memory, "PATIENCE", patience)
    thresholds = gc.get_threshold()
    keep_for_good()
    task = asyncio.create_task(collect_forever(0.0))
    try:
        await asyncio.sleep(0)
        assert gc.get_threshold()[:2] == thresholds[:2]
        assert gc.get_threshold()[2] > 10**6
        circle = Circle()
        garbage = weakref.ref(circle)
        gc.collect(1)  # it is old now
        del circle
        for _ in range(10):
            await asyncio.sleep(0)
        assert (garbage() is None) is is_found
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        gc.unfreeze()
    assert gc.get_threshold() == thresholds
