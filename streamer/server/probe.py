"""
Asks a peer that is not read at the moment whether it is still there.

A peer that sends more than is read, and leaves, goes unnoticed: what is not taken stays in its kernel, and the end of
the connection comes behind it. But a kernel whose program has left answers whatever it is sent with a reset, and the
next write fails.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

PROBE_S = 0.5
"""Time between two questions, seconds: who has left is noticed by the second one."""


class Probe:
    """
    Asks again and again while a peer is not read.

    Args:
        ask: Sends something; is not called after `stop`.
    """

    def __init__(self, ask: Callable[[], None]) -> None:
        self._ask = ask
        self._is_read = True
        self._timer: asyncio.TimerHandle | None = None

    def hold(self) -> None:
        """The peer is not read from now on."""
        self._is_read = False
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(PROBE_S, self._run)

    def read(self) -> None:
        """The peer is read from now on."""
        self._is_read = True

    def stop(self) -> None:
        """Ask nothing more, and hold nothing of the connection."""
        if self._timer is not None:
            self._timer.cancel()
        self._ask = _nothing

    def _run(self) -> None:
        self._timer = None
        if not self._is_read:
            self._ask()
            self.hold()


def _nothing() -> None:
    """Ask nobody."""
