"""
Watches the event loop of the daemon: how long it was held, by what, and whether by the daemon at all.

Everybody's captions wait while one callback runs. A beat every BEAT_S tells how late the loop ran it, and the kernel
why: the loop's thread worked, it waited for another thread or a file, or the machine did not run it. A second thread
looks on: it notes where the loop stands once the beat is overdue.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import threading
import time
from collections.abc import AsyncIterator
from types import FrameType
from typing import NamedTuple

import structlog

from streamer.telemetry.metrics import LoopMetrics

BEAT_S = 0.02
"""Time between two beats. What the loop did in it before a beat was due counts too: so much may be too much."""
HELD_S = 0.05
"""Longest time that the loop may be held: half of what an audio chunk lasts."""
TELL_S = 10.0
"""Shortest time between two log lines."""

log = structlog.get_logger()


class Usage(NamedTuple):
    """What a thread has had so far, seconds."""

    worked_s: float
    """Processor time."""
    starved_s: float
    """Time in which it could have run, and the machine ran others."""


class Lateness(NamedTuple):
    """Why a beat was late, seconds."""

    worked_s: float
    """The loop's thread computed."""
    waited_s: float
    """It waited in the middle of its work: for a lock, another thread, or a file."""
    starved_s: float
    """The machine ran other programs, or other threads of this one."""


class Thread:
    """
    Tells what the calling thread has used; any thread may ask.

    Linux tells for how long it was not run (`schedstat`); elsewhere that counts as waiting.
    """

    def __init__(self) -> None:
        self._clock = time.pthread_getcpuclockid(threading.get_ident())
        self._file: int | None = None
        with contextlib.suppress(OSError):
            self._file = os.open(f"/proc/self/task/{threading.get_native_id()}/schedstat", os.O_RDONLY)

    def usage(self) -> Usage:
        """What the thread has used so far."""
        starved_s = int(os.pread(self._file, 100, 0).split()[1]) / 1e9 if self._file is not None else 0.0
        return Usage(time.clock_gettime(self._clock), starved_s)

    def close(self) -> None:
        """Let go of the file; `usage` must not be called any more."""
        if self._file is not None:
            os.close(self._file)


def explained(late_s: float, before: Usage, after: Usage) -> Lateness:
    """
    Tell why a beat was late.

    Args:
        late_s: After it was due.
        before: What the loop's thread had used shortly before it was due.
        after: What it has used now.
    """
    worked_s = min(late_s, after.worked_s - before.worked_s)
    starved_s = min(late_s - worked_s, after.starved_s - before.starved_s)
    return Lateness(worked_s, late_s - worked_s - starved_s, starved_s)


class LoopWatch:
    """
    Watches the loop that `run` runs on.

    Args:
        metrics: Counts and the longest hold.
    """

    def __init__(self, metrics: LoopMetrics) -> None:
        self._metrics = metrics
        self._due_at_s = float("inf")
        self._where = ""
        self._told_s = float("-inf")
        self.longest_s = 0.0
        """Longest hold by work so far, seconds of processor time."""
        self.held_by = ""
        """Where the loop stood in it; empty: it was not seen."""

    async def run(self) -> None:
        """Beat until cancelled."""
        stop, loop_thread = threading.Event(), Thread()
        arguments = (threading.get_ident(), stop)
        looking = threading.Thread(target=self._look_on, args=arguments, name="loop watch", daemon=True)
        looking.start()
        try:
            while True:
                await self._beat(loop_thread)
        finally:
            stop.set()
            looking.join()
            loop_thread.close()

    async def _beat(self, thread: Thread) -> None:
        self._where, began = "", thread.usage()
        self._due_at_s = due_s = time.monotonic() + BEAT_S
        await asyncio.sleep(BEAT_S)
        late_s = time.monotonic() - due_s
        if late_s > HELD_S:
            self._tell(explained(late_s, began, thread.usage()))

    def _tell(self, late: Lateness) -> None:
        causes = ((late.worked_s, self._metrics.held), (late.waited_s, self._metrics.waited))
        for seconds, metric in (*causes, (late.starved_s, self._metrics.starved)):
            if seconds > HELD_S:
                metric.observe(seconds)
        if late.worked_s > max(HELD_S, self.longest_s):
            self.longest_s, self.held_by = late.worked_s, self._where
            self._metrics.longest.set(late.worked_s)
        now_s = time.monotonic()
        if late.worked_s + late.waited_s > HELD_S and now_s - self._told_s >= TELL_S:
            self._told_s = now_s
            times = {f"{name.removesuffix('_s')}_ms": round(value * 1e3) for name, value in late._asdict().items()}
            log.warning("loop_held", **times, where=self._where or "not seen")

    def _look_on(self, loop_thread: int, stop: threading.Event) -> None:
        while not stop.wait(HELD_S / 2):
            if time.monotonic() - self._due_at_s > HELD_S and not self._where:
                self._where = _place(sys._current_frames().get(loop_thread))


def _place(frame: FrameType | None) -> str:
    """Return module, line and function of the innermost frame, and of the innermost one of this package."""
    innermost = frame
    while frame is not None and "streamer" not in frame.f_globals.get("__name__", "").split("."):
        frame = frame.f_back
    names = dict.fromkeys(_named(found) for found in (innermost, frame) if found is not None)
    return " in ".join(names)


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
