"""
Connection limits: open WebSockets, and the rates of connections, requests and messages of each caller.

A caller is the owner of the key, else the address (`owners`): the key is looked at before anything is counted. Refusals
are plain HTTP responses with `Retry-After`, for pages too: in a flood, a handshake for each refusal would cost too
much. `keys` decides who may connect, the scheduler how many sessions run.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from typing import Protocol

import structlog
from prometheus_client import CollectorRegistry
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from streamer.access.keys import Keys
from streamer.access.owners import is_this_machine, owner_of
from streamer.access.refusals import refusal
from streamer.access.token_buckets import Bucket, Buckets, SharedBuckets
from streamer.config import LimitsConfig
from streamer.errors import OverloadError
from streamer.telemetry.metrics import DoorMetrics

BURST_S = 2.0
"""Size of a bucket of connections, in seconds of its rate: after a restart all sessions of a caller come at once."""
REQUEST_BURST_S = 5.0
"""Size of a bucket of requests in seconds of its rate: an audience opens its pages at once."""
LONGEST_DELAY_S = 2.0
"""Longest wait of a request above its rate; one that had to wait longer is refused, and its connection closed."""
CONNECTIONS_OF_MESSAGES = 40
"""The connections of one caller may send as many messages together as so many of them alone."""
MESSAGE_BURST_S = 10.0
"""Messages that a caller may send at once, in seconds of its rate."""
RETRY_AFTER_S = 5.0
"""`Retry-After` when all connections are taken."""


log = structlog.get_logger()


class Budgeted(Protocol):
    """A WebSocket that is read no faster than a budget allows; it stands in the scope as `state["connection"]`."""

    shared_budget: Bucket | None


class Admission:
    """
    ASGI middleware: refuses WebSockets beyond `max_connections` with 503, and callers above their rate with 429.

    No caller may take more connections than are left free, so that there is always one for the next caller; the
    programs of this machine, where no keys are required, are one caller who may have all.

    Args:
        app: The guarded application.
        limits: Connections and rates.
        registry: Holds the counters of refusals and open connections.
        keys: Name the callers.
        clock: Monotonic time, seconds.
    """

    def __init__(
        self,
        app: ASGIApp,
        limits: LimitsConfig,
        registry: CollectorRegistry,
        keys: Keys,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._app, self._limits, self._keys, self._clock = app, limits, keys, clock
        self._connections = Buckets(limits.handshakes_per_s, max(1.0, BURST_S * limits.handshakes_per_s))
        self._requests = SharedBuckets(limits.requests_per_s, max(1.0, REQUEST_BURST_S * limits.requests_per_s))
        messages_per_s = CONNECTIONS_OF_MESSAGES * limits.messages_per_s
        self._messages = SharedBuckets(messages_per_s, MESSAGE_BURST_S * messages_per_s)
        self._metrics = DoorMetrics(registry)
        self._metrics.tasks.set_function(lambda: len(asyncio.all_tasks()))
        self._open: Counter[str] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """
        Refuse a request, delay it, or pass it on.

        Args:
            scope: As in ASGI.
            receive: As in ASGI.
            send: As in ASGI.
        """
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        owner = owner_of(scope, self._keys)
        if scope["type"] == "websocket" or scope["method"] == "POST":
            refused = self._refused_connection(scope, owner)
        else:
            refused = await self._delay(owner)
        if refused is not None:
            await refused(scope, receive, send)
        elif scope["type"] == "websocket":
            await self._serve(owner, scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _refused_connection(self, scope: Scope, owner: str) -> Response | None:
        if scope["type"] == "websocket" and (message := self._full(owner, is_this_machine(scope, self._keys))):
            return self._refuse("connections", 503, message, RETRY_AFTER_S)
        wait_s = self._connections.wait_s(owner, self._clock())
        if not wait_s:
            return None
        message = f"more than {self._limits.handshakes_per_s:g} new connections a second; try again later"
        return self._refuse("rate", 429, message, wait_s)

    def _full(self, owner: str, may_have_all: bool) -> str:
        """Return why no connection is left for a caller; empty: there is one."""
        n_open, n_own = self._open.total(), self._open[owner]
        n_free = self._limits.max_connections - n_open
        if n_free <= 0:
            return f"{n_open} connections are open, and no more are allowed; try again later"
        if n_own > n_free and not may_have_all:
            return f"{n_own} connections of this caller are open, and {n_free} are left for others; try again later"
        return ""

    async def _delay(self, owner: str) -> Response | None:
        """Wait as long as the caller owes; return the refusal of a request that had to wait too long."""
        bucket, now_s = self._requests.of(owner), self._clock()
        wait_s = bucket.wait_s(now_s)
        if wait_s > LONGEST_DELAY_S:
            message = f"more than {self._limits.requests_per_s:g} requests a second; try again later"
            refused = self._refuse("requests", 429, message, wait_s)
            refused.headers["connection"] = "close"  # what was pipelined behind it is not answered at all
            return refused
        bucket.spend(1.0, now_s)
        if wait_s:
            await asyncio.sleep(wait_s)
        return None

    async def _serve(self, owner: str, scope: Scope, receive: Receive, send: Send) -> None:
        connection: Budgeted | None = scope.get("state", {}).get("connection")
        if connection is not None:
            connection.shared_budget = self._messages.of(owner)
        self._open[owner] += 1
        self._metrics.connections.set(self._open.total())
        try:
            await self._app(scope, receive, send)
        finally:
            self._open[owner] -= 1
            self._open += Counter()  # without those that hold none any more
            self._metrics.connections.set(self._open.total())

    def _refuse(self, reason: str, status: int, message: str, retry_after_s: float) -> Response:
        self._metrics.refused.labels(reason).inc()
        log.info("connection_refused", reason=reason, status=status)
        return refusal(OverloadError(message, round(retry_after_s, 3)), status)
