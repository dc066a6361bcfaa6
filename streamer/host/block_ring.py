"""Blocks of samples on their way from the thread of an audio driver to the event loop, in a bounded ring."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable

from streamer.audio.pcm import Samples
from streamer.errors import CaptureError

BLOCK_S = 0.02
"""Length of a block, in seconds."""
RING_S = 10.0
"""Audio that the ring holds while the event loop is late, in seconds."""


class BlockRing:
    """
    A bounded queue of blocks from the thread of PortAudio to the event loop that created the ring.

    When the event loop is late and the ring is full, the oldest block is dropped and counted: a microphone cannot wait.

    Args:
        capacity: Blocks held at most.
        clock: Monotonic time, seconds.
    """

    def __init__(self, capacity: int = round(RING_S / BLOCK_S), *, clock: Callable[[], float] = time.monotonic) -> None:
        self._loop = asyncio.get_running_loop()
        self._changed = asyncio.Event()
        self._lock = threading.Lock()
        self._blocks: deque[Samples] = deque()
        self._capacity, self._clock = capacity, clock
        self._finished = False
        self.dropped_samples = 0
        """Samples that were dropped because the ring was full."""
        self.n_overflows = 0
        """How often the driver lost samples; it does not say how many."""
        self.first_s: float | None = None
        """When the first block was complete, by the clock; None before it."""
        self.last_s: float | None = None
        """When the newest block was complete, by the clock; None before the first."""

    def put(self, block: Samples, *, overflowed: bool = False) -> None:
        """Add a block, (n,), from any thread; never waits for the event loop."""
        now_s = self._clock()
        with self._lock:
            self.first_s, self.last_s = now_s if self.first_s is None else self.first_s, now_s
            was_empty = not self._blocks
            if len(self._blocks) == self._capacity:
                self.dropped_samples += len(self._blocks.popleft())
            self._blocks.append(block)
            self.n_overflows += overflowed
        if was_empty:
            self._loop.call_soon_threadsafe(self._changed.set)

    def finish(self) -> None:
        """Tell the ring that no block follows, from any thread."""
        self._finished = True
        self._loop.call_soon_threadsafe(self._changed.set)

    async def get(self) -> Samples:
        """
        Take the oldest block, (n,); wait if there is none. Cancelling is safe: no block is lost.

        Raises:
            CaptureError: The device has stopped and every block was taken.
        """
        while not self._blocks:
            if self._finished:
                raise CaptureError("the device has stopped")
            self._changed.clear()
            await self._changed.wait()
        with self._lock:
            return self._blocks.popleft()
