"""
Runs the ASGI application on a TCP port inside the daemon's event loop, with uvicorn.

uvicorn's signal handlers are off: it would close every WebSocket within 0.1 s of SIGTERM, before the sessions could be
drained. Two bounds on stalled peers are here: a peer that sends no request, and a peer that reads nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import sys
from collections.abc import Iterator, Sequence

import h11
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from streamer.config import Config, LimitsConfig, ServerConfig
from streamer.host.sockets import listen

STOP_TIMEOUT_S = 5
"""How long `HttpServer.stop` waits for handlers before it cancels them."""
PING_INTERVAL_S = 20.0
"""Keeps proxies from closing a quiet connection."""


class HttpServer:
    """
    The HTTP server on its port.

    Args:
        app: The application.
        config: `server` for host, port (0: any free port) and message size, `limits` for the timeouts.
        sockets: Listening sockets that systemd or a test has opened; they replace host and port.
        tls: Certificate and key; None: plain HTTP.
    """

    def __init__(
        self,
        app: ASGIApp,
        config: Config,
        sockets: Sequence[socket.socket] | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._config = config.server
        self._is_tls = tls is not None
        self._send_timeout_s = config.limits.send_timeout_s
        self._sockets = list(sockets or ())
        self._server = _Server(_uvicorn_config(app, config.server, config.limits, tls))
        self._task: asyncio.Task[None] | None = None

    @property
    def port(self) -> int:
        """The listening port; 0 before `start` if the configuration asks for any free port."""
        if not self._sockets:
            return self._config.port
        return int(self._sockets[0].getsockname()[1])

    @property
    def url(self) -> str:
        """Address for a browser."""
        host = f"[{self._config.host}]" if ":" in self._config.host else self._config.host
        return f"{'https' if self._is_tls else 'http'}://{host}:{self.port}/"

    async def start(self) -> None:
        """
        Listen, and accept connections from now on.

        Raises:
            StreamerError: The port is taken, or the address is not one of this machine.
        """
        if not self._sockets:
            self._sockets = [listen(self._config.host, self._config.port)]
        for listener in self._sockets:
            _give_up_after(listener, self._send_timeout_s)
        self._task = asyncio.create_task(self._server.serve(sockets=self._sockets), name="http")

    async def stop(self) -> None:
        """Close the port and every connection (1012); wait for the handlers, at most STOP_TIMEOUT_S."""
        self._server.should_exit = True
        if self._task is not None:
            await self._task


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Install no signal handlers: the daemon has its own."""
        yield


class _ImpatientHttp(H11Protocol):
    """
    Aborts a connection that sends no whole request in time.

    uvicorn waits for the first request for ever, so connections that send none could use up all descriptors.
    """

    request_timeout_s: float

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the clock of the first request."""
        super().connection_made(transport)
        self._patience = self.loop.call_later(self.request_timeout_s, self._give_up)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clock."""
        self._patience.cancel()
        super().connection_lost(exc)

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        """Stop the clock: the WebSocket protocol takes the transport over, and this one hears nothing more of it."""
        self._patience.cancel()
        super().handle_websocket_upgrade(event)

    def _give_up(self) -> None:
        if self.cycle is None:
            self.transport.abort()


def _http_protocol(request_timeout_s: float) -> type[asyncio.Protocol]:
    # uvicorn constructs the protocols itself and passes no arguments of ours
    return type("HttpProtocol", (_ImpatientHttp,), {"request_timeout_s": request_timeout_s})


def _uvicorn_config(
    app: ASGIApp, config: ServerConfig, limits: LimitsConfig, tls: ssl.SSLContext | None
) -> uvicorn.Config:
    uvicorn_config = uvicorn.Config(
        app,
        http=_http_protocol(limits.request_timeout_s),
        log_config=None,
        log_level="warning",
        access_log=False,
        lifespan="off",
        server_header=False,
        proxy_headers=False,
        ws="websockets-sansio",
        # a message above max_frame_bytes is answered with an error; above twice that, it is cut while it is read
        ws_max_size=2 * config.max_frame_bytes,
        ws_per_message_deflate=False,
        ws_ping_interval=PING_INTERVAL_S,
        # reading pauses while a session's backlog is full, and then no pong is seen: the connection is not lost
        ws_ping_timeout=None,
        timeout_graceful_shutdown=STOP_TIMEOUT_S,
    )
    uvicorn_config.load()
    uvicorn_config.ssl = tls  # uvicorn takes file names alone and would not reload a renewed certificate
    return uvicorn_config


def _give_up_after(listener: socket.socket, seconds: float) -> None:
    """
    Let the kernel drop connections whose peer acknowledges no data for so many seconds (TCP_USER_TIMEOUT).

    Accepted connections inherit the option from the listener. asyncio cannot close a transport that has unsent bytes,
    so a peer that stopped reading would hold its descriptor for ever; a vanished peer is found by the next ping.
    """
    if sys.platform == "linux" and listener.family in (socket.AF_INET, socket.AF_INET6):
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(seconds * 1000))
