"""
Limits the open WebSockets, and the rates of connections and requests of each caller.

`LocalLimiter` counts for one process, or in one process for all of a daemon.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from typing import Protocol

import msgspec

from streamer.access.token_buckets import Buckets
from streamer.config import LimitsConfig

BURST_S = 2.0
"""Size of a bucket of connections, in seconds of its rate: after a restart all sessions of a caller come at once."""
REQUEST_BURST_S = 5.0
"""Size of a bucket of requests in seconds of its rate: an audience opens its pages at once."""
LONGEST_DELAY_S = 2.0
"""Longest wait of a request above its rate; one that had to wait longer is refused, and its connection closed."""
RETRY_AFTER_S = 5.0
"""`Retry-After` when all connections are taken."""


class Refused(msgspec.Struct, frozen=True, kw_only=True):
    """Why a connection or a request is refused."""

    reason: str
    """For the metric."""
    status: int
    message: str
    retry_after_s: float


class Limiter(Protocol):
    """Counts what callers do, and refuses what is too much."""

    @property
    def n_open(self) -> int:
        """Open WebSockets of this process."""

    async def enter(self, owner: str, *, is_socket: bool, may_have_all: bool) -> Refused | None:
        """
        Count a new WebSocket or upload; a WebSocket that comes in is open until `leave`. Cancelling is safe.

        Args:
            owner: Of the budget.
            is_socket: Whether it is a WebSocket.
            may_have_all: Whether the caller may have more connections than are left for others.
        """
        ...

    def leave(self, owner: str) -> None:
        """A WebSocket is closed."""

    async def request(self, owner: str) -> Refused | float:
        """Count another request; the seconds that it has to wait. Cancelling is safe."""
        ...


class LocalLimiter:
    """
    The counts of all callers.

    No caller may take more connections than are left free, so that there is always one for the next caller; the
    programs of this machine, where no keys are required, are one caller who may have all.

    Args:
        limits: Connections and rates.
        clock: Monotonic time, seconds.
    """

    def __init__(self, limits: LimitsConfig, clock: Callable[[], float] = time.monotonic) -> None:
        self._limits, self._clock = limits, clock
        self._connections = Buckets(limits.handshakes_per_s, max(1.0, BURST_S * limits.handshakes_per_s))
        self._requests = Buckets(limits.requests_per_s, max(1.0, REQUEST_BURST_S * limits.requests_per_s))
        self._open: Counter[str] = Counter()

    @property
    def n_open(self) -> int:
        """Open WebSockets."""
        return self._open.total()

    async def enter(self, owner: str, *, is_socket: bool, may_have_all: bool) -> Refused | None:
        """
        As `Limiter.enter`.

        Args:
            owner: Of the budget.
            is_socket: Whether it is a WebSocket.
            may_have_all: Whether the caller may have more connections than are left for others.
        """
        if is_socket and (message := self._full(owner, may_have_all)):
            return Refused(reason="connections", status=503, message=message, retry_after_s=RETRY_AFTER_S)
        if wait_s := self._connections.of(owner).take(self._clock()):
            message = f"more than {self._limits.handshakes_per_s:g} new connections a second; try again later"
            return Refused(reason="rate", status=429, message=message, retry_after_s=wait_s)
        if is_socket:
            self._open[owner] += 1
        return None

    def leave(self, owner: str) -> None:
        """As `Limiter.leave`."""
        self._open[owner] -= 1
        if self._open[owner] <= 0:
            del self._open[owner]

    async def request(self, owner: str) -> Refused | float:
        """As `Limiter.request`."""
        bucket, now_s = self._requests.of(owner), self._clock()
        wait_s = bucket.wait_s(now_s)
        if wait_s > LONGEST_DELAY_S:
            message = f"more than {self._limits.requests_per_s:g} requests a second; try again later"
            return Refused(reason="requests", status=429, message=message, retry_after_s=wait_s)
        bucket.spend(1.0, now_s)
        return wait_s

    def _full(self, owner: str, may_have_all: bool) -> str:
        """Return why no connection is left for a caller; empty: there is one."""
        n_open, n_own = self._open.total(), self._open[owner]
        n_free = self._limits.max_connections - n_open
        if n_free <= 0:
            return f"{n_open} connections are open, and no more are allowed; try again later"
        if n_own > n_free and not may_have_all:
            return f"{n_own} connections of this caller are open, and {n_free} are left for others; try again later"
        return ""
