"""Tests of streamer/telemetry/loop_watch.py: what counts as holding the event loop."""

from __future__ import annotations

import asyncio
import gc
import hashlib
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from streamer.telemetry.loop_watch import BEAT_S, HELD_S, Lateness, LoopWatch, Thread, Usage, explained, watched
from streamer.telemetry.metrics import LoopMetrics


@pytest.fixture(autouse=True)
def uncollected() -> Iterator[None]:
    """A search for garbage through all that the tests have loaded would hold the loop too."""
    gc.disable()
    yield
    gc.enable()


def work(seconds: float) -> None:
    """Use up processor time."""
    began_s = time.thread_time()
    while time.thread_time() - began_s < seconds:
        hashlib.sha256(bytes(1000)).digest()


async def next_beats(n: int) -> None:
    """Until the watch has looked so many times."""
    await asyncio.sleep(n * BEAT_S)


async def test_a_callback_that_computes_is_named() -> None:
    """By how long it held the loop, and where it stood; the log has one line for several of them."""
    registry = CollectorRegistry()
    with capture_logs() as lines:
        async with watched(LoopWatch(LoopMetrics(registry))) as watch:
            for _ in range(2):
                await asyncio.sleep(BEAT_S / 4)
                work(3 * HELD_S)
                await next_beats(2)

    assert watch.longest_s > HELD_S
    assert "work" in watch.held_by or "test_loop_watch" in watch.held_by
    assert [line["event"] for line in lines] == ["loop_held"]
    assert registry.get_sample_value("streamer_loop_held_longest_seconds") == watch.longest_s


async def test_a_callback_that_waits_is_told_apart() -> None:
    """A pause without processor time of the loop's thread is no work; the log names its place all the same."""
    registry = CollectorRegistry()
    with capture_logs() as lines:
        async with watched(LoopWatch(LoopMetrics(registry))) as watch:
            await asyncio.sleep(BEAT_S / 4)
            time.sleep(3 * HELD_S)  # noqa: ASYNC251 - stands for a lock, or a slow disk
            await next_beats(2)

    assert watch.longest_s == 0.0
    assert registry.get_sample_value("streamer_loop_held_seconds_count") == 0
    assert registry.get_sample_value("streamer_loop_waited_seconds_count") == 1
    assert lines[0]["waited_ms"] > 50
    assert "test_loop_watch" in lines[0]["where"]


def test_lateness_has_three_causes() -> None:
    """Work comes first, then the machine; what neither explains was spent waiting. Nothing is more than the whole."""
    before = Usage(worked_s=7.0, starved_s=3.0)
    assert explained(1.0, before, Usage(7.25, 3.5)) == Lateness(worked_s=0.25, waited_s=0.25, starved_s=0.5)
    assert explained(1.0, before, Usage(9.0, 9.0)) == Lateness(worked_s=1.0, waited_s=0.0, starved_s=0.0)


def test_a_thread_tells_its_own_work() -> None:
    """Whichever thread asks."""
    thread = Thread()
    before = thread.usage()
    work(0.02)
    with ThreadPoolExecutor(1) as other:
        after = other.submit(thread.usage).result()
    thread.close()

    assert after.worked_s - before.worked_s >= 0.02
    assert after.starved_s >= before.starved_s
