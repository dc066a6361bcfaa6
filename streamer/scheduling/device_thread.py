"""A thread that owns a device: coroutines run their blocking calls on it, one after another."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

LIVENESS_S = 30.0
"""Time that one call may take before the device counts as hanging, seconds."""
LOOK_S = 0.5
"""Between two looks at a call, seconds. Looks are counted: there are none in a container that is paused."""

T = TypeVar("T")


class DeviceThread:
    """
    One thread for blocking calls. Used on the event loop only.

    Args:
        n_threads: CPU threads of matrix products on it.
        liveness_s: Time that one call may take before the thread counts as hanging, seconds.
    """

    def __init__(self, n_threads: int = 1, liveness_s: float = LIVENESS_S) -> None:
        self._executor = ThreadPoolExecutor(1, "device", initializer=torch.set_num_threads, initargs=(n_threads,))
        self._liveness_s = liveness_s
        self._turn = asyncio.Lock()
        self._busy_s: float | None = None
        """Time for which the present call has run, counted in looks; None: there is none."""

    @property
    def is_hanging(self) -> bool:
        """Whether the present call takes longer than it may."""
        return self._busy_s is not None and self._busy_s > self._liveness_s

    async def run(self, call: Callable[[], T]) -> T:
        """Run a call on the thread, after those that wait already; what it raises is raised here."""
        async with self._turn:
            loop, self._busy_s = asyncio.get_running_loop(), 0.0
            self._looking = loop.call_later(LOOK_S, self._look, loop)
            try:
                return await loop.run_in_executor(self._executor, call)
            finally:
                self._looking.cancel()
                self._busy_s = None

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        assert self._busy_s is not None
        self._busy_s += LOOK_S
        self._looking = loop.call_later(LOOK_S, self._look, loop)

    def close(self) -> None:
        """Take no more calls; the present one runs to its end."""
        self._executor.shutdown(wait=False, cancel_futures=True)
