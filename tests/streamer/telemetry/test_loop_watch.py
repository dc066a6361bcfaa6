"""Tests of streamer/telemetry/loop_watch.py: what counts as holding the event loop."""

from __future__ import annotations

import asyncio
import hashlib
import time

from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from streamer.telemetry.loop_watch import BEAT_S, HELD_S, LoopWatch, watched
from streamer.telemetry.metrics import LoopMetrics


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
                await asyncio.sleep(BEAT_S / 10)
                work(2 * BEAT_S + 2 * HELD_S)
                await next_beats(2)

    assert watch.longest_s > HELD_S
    assert "work" in watch.held_by or "test_loop_watch" in watch.held_by
    assert [line["event"] for line in lines] == ["loop_held"]
    assert registry.get_sample_value("streamer_loop_held_longest_seconds") == watch.longest_s


async def test_a_loop_that_waits_for_the_machine_holds_nobody() -> None:
    """A pause without processor time of the loop's thread is the machine's, not the daemon's."""
    async with watched(LoopWatch(LoopMetrics(CollectorRegistry()))) as watch:
        await asyncio.sleep(BEAT_S / 10)
        time.sleep(2 * BEAT_S + 2 * HELD_S)  # noqa: ASYNC251 - stands for a machine that is busy elsewhere
        await next_beats(2)

    assert watch.longest_s == 0.0
