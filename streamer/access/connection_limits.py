"""
Connection limits: open WebSockets, and the rates of connections, requests and messages of each caller.

What its WebSockets share beyond that stands in the scope of each (`allowances`).

A caller is the owner of the key, else the address (`owners`): the key is looked at before anything is counted. Refusals
are plain HTTP responses with `Retry-After`, for pages too: in a flood, a handshake for each refusal would cost too
much. `keys` decides who may connect, the scheduler how many sessions run.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

import structlog
from prometheus_client import CollectorRegistry
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from streamer.access.allowances import Allowance, note
from streamer.access.keys import Keys
from streamer.access.limiter import Limiter, Refused
from streamer.access.owners import is_this_machine, owner_of
from streamer.access.refusals import refusal
from streamer.access.remembered import Remembered
from streamer.config import LimitsConfig
from streamer.errors import OverloadError
from streamer.telemetry.metrics import ConnectionMetrics

CONNECTIONS_OF_MESSAGES = 40
"""The connections of one caller may send as many messages together as so many of them alone."""

log = structlog.get_logger()


class Budgeted(Protocol):
    """A WebSocket that is read no faster than an allowance lets it; it stands in the scope as `state["connection"]`."""

    allowance: Allowance | None


class Admission:
    """
    ASGI middleware: refuses WebSockets beyond `max_connections` with 503, and callers above their rate with 429.

    Args:
        app: The guarded application.
        limits: Rates of messages.
        registry: Holds the counters of refusals and open connections.
        keys: Name the callers.
        limiter: Counts connections and requests.
        n_processes: Processes that share the limiter; each gives a caller its part of the messages of all connections.
    """

    def __init__(
        self,
        app: ASGIApp,
        limits: LimitsConfig,
        registry: CollectorRegistry,
        keys: Keys,
        limiter: Limiter,
        n_processes: int,
    ) -> None:
        self._app, self._keys, self._limiter = app, keys, limiter
        messages_per_s = max(1.0, CONNECTIONS_OF_MESSAGES / n_processes) * limits.messages_per_s
        self._allowances = Remembered(lambda: Allowance(messages_per_s))
        self._metrics = ConnectionMetrics(registry)
        self._metrics.tasks.set_function(lambda: len(asyncio.all_tasks()))
        self._metrics.connections.set_function(lambda: self._limiter.n_open)

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
            refused = await self._enter(scope, owner)
        else:
            refused = await self._delay(owner)
        if refused is not None:
            await refused(scope, receive, send)
        elif scope["type"] == "websocket":
            await self._serve(owner, scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _enter(self, scope: Scope, owner: str) -> Response | None:
        is_socket, may_have_all = scope["type"] == "websocket", is_this_machine(scope, self._keys)
        refused = await self._limiter.enter(owner, is_socket=is_socket, may_have_all=may_have_all)
        return None if refused is None else self._refuse(refused)

    async def _delay(self, owner: str) -> Response | None:
        """Wait as long as the caller owes; return the refusal of a request that had to wait too long."""
        owed = await self._limiter.request(owner)
        if isinstance(owed, Refused):
            refused = self._refuse(owed)
            refused.headers["connection"] = "close"  # what was pipelined behind it is not answered at all
            return refused
        if owed:
            await asyncio.sleep(owed)
        return None

    async def _serve(self, owner: str, scope: Scope, receive: Receive, send: Send) -> None:
        allowance = self._allowances.of(owner)
        note(scope, allowance)
        connection: Budgeted | None = scope.get("state", {}).get("connection")
        if connection is not None:
            connection.allowance = allowance
        try:
            await self._app(scope, receive, send)
        finally:
            self._limiter.leave(owner)

    def _refuse(self, refused: Refused) -> Response:
        self._metrics.refused.labels(refused.reason).inc()
        log.info("connection_refused", reason=refused.reason, status=refused.status)
        return refusal(OverloadError(refused.message, round(refused.retry_after_s, 3)), refused.status)
