"""
Watches the event loop of the daemon: how long it was held, and by what.

Everybody's captions wait while one callback runs. A beat every BEAT_S tells how late the loop ran it. A busy machine
makes it late too, so only processor time of the loop's own thread counts, from about when the beat was due. A second
thread looks on: it notes that time, and where the loop stands once a beat is overdue.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import threading
import time
from collections.abc import AsyncIterator
from types import FrameType

import structlog

from streamer.telemetry.metrics import LoopMetrics

BEAT_S = 0.1
"""Time between two beats."""
HELD_S = 0.05
"""Longest time that the loop may be held: half of what an audio chunk lasts."""
TELL_S = 10.0
"""Shortest time between two log lines."""

log = structlog.get_logger()


class LoopWatch:
    """
    Watches the loop that `run` runs on.

    Args:
        metrics: Counts and the longest hold.
    """

    def __init__(self, metrics: LoopMetrics) -> None:
        self._metrics = metrics
        self._due_at_s = float("inf")
        self._used_s = 0.0
        """Processor time of the loop's thread, seconds, when the looking thread last saw it before the beat was due."""
        self._where = ""
        self._told_s = float("-inf")
        self.longest_s = 0.0
        """Longest hold so far, seconds of processor time."""
        self.held_by = ""
        """Where the loop stood in it; empty: it was not seen."""

    async def run(self) -> None:
        """Beat until cancelled."""
        stop = threading.Event()
        thread = threading.Thread(
            target=self._look_on, args=(threading.get_ident(), stop), name="loop watch", daemon=True
        )
        thread.start()
        try:
            while True:
                await self._beat()
        finally:
            stop.set()

    async def _beat(self) -> None:
        self._where, self._used_s = "", time.thread_time()
        self._due_at_s = due_s = time.monotonic() + BEAT_S
        await asyncio.sleep(BEAT_S)
        self._due_at_s = float("inf")
        held_s = min(time.monotonic() - due_s, time.thread_time() - self._used_s)
        if held_s > HELD_S:
            self._tell(held_s)

    def _tell(self, held_s: float) -> None:
        self._metrics.held.observe(held_s)
        if held_s > self.longest_s:
            self.longest_s, self.held_by = held_s, self._where
            self._metrics.longest.set(held_s)
        now_s = time.monotonic()
        if now_s - self._told_s >= TELL_S:
            self._told_s = now_s
            log.warning("loop_held", held_ms=round(held_s * 1e3), where=self._where or "not seen")

    def _look_on(self, loop_thread: int, stop: threading.Event) -> None:
        clock = time.pthread_getcpuclockid(loop_thread)
        while not stop.wait(HELD_S / 2):
            late_s = time.monotonic() - self._due_at_s
            if late_s < 0:
                self._used_s = time.clock_gettime(clock)
            elif late_s > HELD_S and not self._where:
                self._where = _place(sys._current_frames().get(loop_thread))


def _place(frame: FrameType | None) -> str:
    """Return file, line and function of the innermost frame of this package, else of the innermost one."""
    innermost = frame
    while frame is not None:
        if "streamer" in frame.f_globals.get("__name__", "").split("."):
            return _named(frame)
        frame = frame.f_back
    return _named(innermost) if innermost is not None else ""


def _named(frame: FrameType) -> str:
    return f"{frame.f_globals.get('__name__', '?')}:{frame.f_lineno} {frame.f_code.co_name}"


@contextlib.asynccontextmanager
async def watched(watch: LoopWatch) -> AsyncIterator[LoopWatch]:
    """Watch the loop for the length of a block."""
    task = asyncio.create_task(watch.run(), name="loop watch")
    try:
        yield watch
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
