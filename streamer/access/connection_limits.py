"""
Connection limits: a bound on open WebSockets, and on the rate of new connections and uploads of each address.

Refusals are plain HTTP responses with `Retry-After`, for pages too: in a flood, a handshake for each refusal would cost
too much. `keys` decides who may connect, the scheduler how many sessions run.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from prometheus_client import CollectorRegistry
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from streamer.access.pace import Buckets
from streamer.access.refusals import refusal
from streamer.config import LimitsConfig
from streamer.errors import OverloadError
from streamer.telemetry.metrics import DoorMetrics

BURST_S = 2.0
"""Size of a bucket in seconds of its rate: after a restart all sessions of a caller reconnect at once."""
RETRY_AFTER_S = 5.0
"""`Retry-After` when all connections are taken."""


class Admission:
    """
    ASGI middleware: refuses WebSockets beyond `max_connections` with 503, and callers above their rate with 429.

    Args:
        app: The guarded application.
        limits: `max_connections` and `handshakes_per_s` are read.
        registry: Holds the counters of refusals and open connections.
        clock: Monotonic time, seconds.
    """

    def __init__(
        self,
        app: ASGIApp,
        limits: LimitsConfig,
        registry: CollectorRegistry,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._app, self._limits, self._clock = app, limits, clock
        self._rate = Buckets(limits.handshakes_per_s, max(1.0, BURST_S * limits.handshakes_per_s))
        self._metrics = DoorMetrics(registry)
        self._metrics.tasks.set_function(lambda: len(asyncio.all_tasks()))
        self._n_open = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """
        Refuse a WebSocket or POST request, or pass it on; other requests are not limited.

        Args:
            scope: As in ASGI.
            receive: As in ASGI.
            send: As in ASGI.
        """
        is_socket = scope["type"] == "websocket"
        if not is_socket and scope.get("method") != "POST":
            await self._app(scope, receive, send)
        elif is_socket and self._n_open >= self._limits.max_connections:
            message = f"{self._n_open} connections are open, and no more are allowed; try again later"
            await self._refuse("connections", 503, message, RETRY_AFTER_S)(scope, receive, send)
        elif wait_s := self._rate.wait_s(_address(scope), self._clock()):
            message = f"more than {self._limits.handshakes_per_s:g} new connections a second; try again later"
            await self._refuse("rate", 429, message, wait_s)(scope, receive, send)
        elif is_socket:
            await self._serve(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._n_open += 1
        self._metrics.connections.set(self._n_open)
        try:
            await self._app(scope, receive, send)
        finally:
            self._n_open -= 1
            self._metrics.connections.set(self._n_open)

    def _refuse(self, reason: str, status: int, message: str, retry_after_s: float) -> Response:
        self._metrics.refused.labels(reason).inc()
        return refusal(OverloadError(message, round(retry_after_s, 3)), status)


def _address(scope: Scope) -> str:
    client = scope.get("client")
    return str(client[0]) if client else ""  # a Unix socket has no client address
