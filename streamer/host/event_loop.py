"""
An event loop that serves sockets in turn.

asyncio runs the callbacks of all sockets that are ready before anything else. When five hundred peers close at the same
moment, or begin a TLS handshake, that holds everybody for a tenth of a second and more.
"""

from __future__ import annotations

import asyncio
import selectors

MOST_AT_ONCE = 32
"""Sockets that are served before everything else gets its turn."""


class FairSelector(selectors.DefaultSelector):
    """Tells of at most `MOST_AT_ONCE` files at a time, and of the others next."""

    def __init__(self) -> None:
        super().__init__()
        self._rest: list[tuple[selectors.SelectorKey, int]] = []

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """
        As `BaseSelector.select`; while there are files left of the last time, they are told of without a wait.

        Args:
            timeout: Longest wait, seconds; None: any time.
        """
        if not self._rest:
            self._rest = super().select(timeout)
        told, self._rest = self._rest[:MOST_AT_ONCE], self._rest[MOST_AT_ONCE:]
        watched = self.get_map()
        # one that was told of before may be watched no more, or for something else
        return [(key, events) for key, events in told if watched.get(key.fd) is key]


def fair_loop() -> asyncio.AbstractEventLoop:
    """Make an event loop that serves sockets in turn."""
    return asyncio.SelectorEventLoop(FairSelector())
