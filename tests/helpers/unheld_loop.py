"""A bound on how long anything may hold the event loop of a test."""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from prometheus_client import CollectorRegistry

from streamer.telemetry.loop_watch import BEAT_S, HELD_S, LoopWatch, watched
from streamer.telemetry.metrics import LoopMetrics


@asynccontextmanager
async def unheld_loop() -> AsyncIterator[None]:
    """Fail the test if the loop was held for more than HELD_S of processor time while the block ran."""
    gc.freeze()  # as the daemon does: a search through all that the tests have loaded takes 0.3 s
    try:
        async with watched(LoopWatch(LoopMetrics(CollectorRegistry()))) as watch:
            await asyncio.sleep(0)
            yield
            await asyncio.sleep(2 * BEAT_S)  # a hold is seen by the beat after it
    finally:
        gc.unfreeze()
    # measuring coverage doubles the processor time of Python code
    bound_s = HELD_S if sys.gettrace() is None else 2 * HELD_S
    assert watch.longest_s <= bound_s, f"the loop was held {watch.longest_s * 1e3:.0f} ms by {watch.held_by}"
