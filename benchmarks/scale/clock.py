"""An event loop whose clock jumps to the next timer: what takes a minute of stream time takes what its code takes."""

from __future__ import annotations

import asyncio
import selectors
import time
from collections.abc import Coroutine
from typing import Any, TypeVar
from unittest import mock

T = TypeVar("T")


class _NothingToRead(selectors.SelectSelector):
    """Instead of waiting for sockets, of which there are none, moves the clock."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Let the time pass for which there is nothing to do."""
        if timeout is None:
            raise RuntimeError("every task waits for something that no timer brings")
        self.now_s += max(0.0, timeout)
        return []


class SimulatedLoop(asyncio.SelectorEventLoop):
    """Runs timers at once, in the order of their times."""

    def __init__(self) -> None:
        self._clock = _NothingToRead()
        super().__init__(self._clock)

    def time(self) -> float:
        """Simulated seconds since the loop began."""
        return self._clock.now_s

    def work(self, seconds: float) -> None:
        """Hold the loop for so long."""
        self._clock.now_s += seconds


def run(main: Coroutine[Any, Any, T]) -> T:
    """
    Run a coroutine on a simulated clock, which the code under it reads as the monotonic clock of the machine.

    Args:
        main: Uses no thread and no socket.
    """
    with asyncio.Runner(loop_factory=SimulatedLoop) as runner:
        loop = runner.get_loop()
        with mock.patch.object(time, "monotonic", loop.time), mock.patch.object(time, "perf_counter", loop.time):
            return runner.run(main)
