"""
How many may knock, and how often: bounds on WebSockets and on what costs work, before any of it is done. Pure ASGI.

Refusals are plain HTTP answers with `Retry-After`, also for pages: a flood is not worth a handshake each. Who is let in
is a matter of `keys`, how many sessions run one of `scheduler`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from prometheus_client import CollectorRegistry
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from streamer.access.refusals import refusal
from streamer.config import LimitsConfig
from streamer.errors import OverloadError
from streamer.telemetry.metrics import DoorMetrics

BURST_S = 2.0
"""A caller who was quiet may come this many seconds' worth of times at once: all sessions reconnect after a restart."""
MAX_REMEMBERED = 4096
"""Callers whose rate is known; of more, the one who came longest ago is forgotten."""
RETRY_AFTER_S = 5.0
"""When connections are exhausted."""


class RateLimit:
    """
    A token bucket for each caller.

    Args:
        rate: Times a second that each may come.
        burst: Times that one may come at once.
    """

    def __init__(self, rate: float, burst: float) -> None:
        self._rate, self._burst = rate, burst
        self._buckets: dict[str, tuple[float, float]] = {}  # caller -> tokens left, when; the latest comers last

    def wait_s(self, caller: str, now_s: float) -> float:
        """Count one time; 0, or the seconds after which it would be allowed, and it is not counted."""
        left, then_s = self._buckets.pop(caller, (self._burst, now_s))
        left = min(self._burst, left + (now_s - then_s) * self._rate)
        allowed = left >= 1
        self._buckets[caller] = (left - 1 if allowed else left, now_s)
        if len(self._buckets) > MAX_REMEMBERED:
            del self._buckets[next(iter(self._buckets))]
        return 0.0 if allowed else (1 - left) / self._rate


class Admission:
    """
    Refuses WebSockets beyond `max_connections` with 503, and callers who come too often with 429.

    Args:
        app: What is guarded.
        limits: See `LimitsConfig`.
        registry: Where to count.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        app: ASGIApp,
        limits: LimitsConfig,
        registry: CollectorRegistry,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._app, self._limits, self._clock = app, limits, clock
        self._rate = RateLimit(limits.handshakes_per_s, max(1.0, BURST_S * limits.handshakes_per_s))
        self._metrics = DoorMetrics(registry)
        self._metrics.tasks.set_function(lambda: len(asyncio.all_tasks()))
        self._n_open = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse, or hand on."""
        is_socket = scope["type"] == "websocket"
        if not is_socket and scope.get("method") != "POST":
            await self._app(scope, receive, send)
        elif is_socket and self._n_open >= self._limits.max_connections:
            message = f"{self._n_open} connections are open, as many as there may be; try again later"
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
    return str(client[0]) if client else ""  # none on a Unix socket
