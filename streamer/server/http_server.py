"""
Runs the ASGI application on a TCP port inside the daemon's event loop, with uvicorn.

uvicorn's signal handlers are off: it would close every WebSocket within 0.1 s of SIGTERM, before the sessions could be
drained. Connections are accepted by `listener`, and their bytes parsed by `uvicorn_protocols`, which bound what a peer
can take. The bound on a peer that reads nothing is here.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import cast

import structlog
import uvicorn
from prometheus_client import CollectorRegistry
from starlette.concurrency import run_in_threadpool
from starlette.types import ASGIApp

from streamer.access.forwarded import TrustedProxies
from streamer.access.open_sockets import MAX_WAITING, OpenSocket, OpenSockets
from streamer.config import Config, ServerConfig
from streamer.host.sockets import UNIX
from streamer.server.listener import Listener
from streamer.server.pieces import ParseQueue
from streamer.server.uvicorn_protocols import HalfMessages, HttpProtocol, WebSocketProtocol
from streamer.telemetry.metrics import SocketMetrics

log = structlog.get_logger()

STOP_TIMEOUT_S = 5
"""How long `HttpServer.stop` waits for handlers before it cancels them."""
LOOK_S = 0.005
"""Between two looks at whether connections and handlers have ended, seconds."""
TICK_S = 1.0
"""Between two dates of answers, seconds."""
PING_INTERVAL_S = 20.0
"""Keeps proxies from closing a quiet connection."""


class HttpServer:
    """
    The HTTP server on its sockets.

    Args:
        app: The application.
        config: `server` for the message size, `limits` for the timeouts.
        sockets: Listening, at least one.
        tls: Certificate and key; None: plain HTTP.
        registry: Of the metrics of sockets; None: they are not shown.
        max_waiting: Connections that may wait for their peer.
        knows: Whether the first bytes of a request show a valid key: then it comes before those that do not.
    """

    def __init__(
        self,
        app: ASGIApp,
        config: Config,
        sockets: Sequence[socket.socket],
        tls: ssl.SSLContext | None = None,
        registry: CollectorRegistry | None = None,
        max_waiting: int = MAX_WAITING,
        knows: Callable[[bytes], bool] = lambda _: False,
    ) -> None:
        self._config = config.server
        self._is_tls = tls is not None
        self._send_timeout_s = config.limits.send_timeout_s
        self._sockets = list(sockets)
        metrics = SocketMetrics(registry if registry is not None else CollectorRegistry())
        self._server = _Server(_uvicorn_config(app, config.server), config, tls, metrics, max_waiting, knows)
        self._task: asyncio.Task[None] | None = None

    @property
    def url(self) -> str:
        """As `url_of`, of the first socket."""
        return url_of(self._config, self._sockets[0], is_tls=self._is_tls)

    async def start(self) -> None:
        """Accept connections from now on."""
        for listener in self._sockets:
            _give_up_after(listener, self._send_timeout_s)
        self._task = asyncio.create_task(self._server.serve(sockets=self._sockets), name="http")

    def stop_accepting(self) -> None:
        """Close the port, as soon as it is open; open connections stay."""
        self._server.is_closed = True
        for server in self._server.servers:
            server.close()

    async def stop(self) -> None:
        """Close the port and every connection (1012); wait for the handlers, at most STOP_TIMEOUT_S."""
        self._server.end()
        if self._task is not None:
            await self._task


def url_of(config: ServerConfig, listening: socket.socket, *, is_tls: bool) -> str:
    """
    Address for a browser; of a Unix socket `unix:` and its path.

    Args:
        config: `host` is read.
        listening: The socket.
        is_tls: Whether it speaks TLS.
    """
    address = listening.getsockname()
    if isinstance(address, str):
        return f"{UNIX}{address}"
    host = f"[{config.host}]" if ":" in config.host else config.host
    return f"{'https' if is_tls else 'http'}://{host}:{address[1]}/"


class _Server(uvicorn.Server):
    def __init__(
        self,
        uvicorn_config: uvicorn.Config,
        config: Config,
        tls: ssl.SSLContext | None,
        metrics: SocketMetrics,
        max_waiting: int,
        knows: Callable[[bytes], bool],
    ) -> None:
        super().__init__(uvicorn_config)
        self.servers: list[asyncio.Server] = []
        self.is_closed = False
        """Whether nobody is accepted any more."""
        self._is_ending = asyncio.Event()
        self._knows = knows
        limits, proxies = config.limits, TrustedProxies(config.server.trusted_proxies)
        self._limits, self._tls, self._metrics = limits, tls, metrics
        max_open = limits.max_connections + limits.max_viewers + max_waiting
        self._sockets = OpenSockets(max_open, metrics, max_waiting, proxies)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Install no signal handlers: the daemon has its own."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept connections, in place of uvicorn's own servers."""
        self._parse_queue = ParseQueue(asyncio.get_running_loop())
        # uvicorn constructs the WebSocket itself and passes no arguments of ours
        bounds = {
            "request_timeout_s": self._limits.request_timeout_s,
            "send_timeout_s": self._limits.send_timeout_s,
            "frames_per_s": self._limits.messages_per_s,
            "parse_queue": self._parse_queue,
            "halves": HalfMessages(),
        }
        self.config.ws_protocol_class = type("WebSocket", (WebSocketProtocol,), bounds)
        await self.lifespan.startup()
        await run_in_threadpool(int)  # loads what the first streamed answer would load, for 40 ms of the event loop
        listeners = [self._listener(listening) for listening in sockets or ()]
        for listener in listeners:
            if self.is_closed:  # while this began
                listener.close()
            else:
                listener.start()
        self.servers = cast(list[asyncio.Server], listeners)  # uvicorn closes them and waits, nothing else
        self.started = True

    def end(self) -> None:
        """Let `serve` come to its end."""
        self.should_exit = True
        self._is_ending.set()

    async def main_loop(self) -> None:
        """Keep the date of answers right until `end`, in place of uvicorn's looks whether it has come."""
        while not await self.on_tick(0):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(TICK_S):
                    await self._is_ending.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Close the port and every connection, as uvicorn does, but without its pauses of a tenth of a second."""
        for listening in (*self.servers, *(sockets or ())):
            listening.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        try:
            async with asyncio.timeout(STOP_TIMEOUT_S):
                while self.server_state.connections or self.server_state.tasks:  # noqa: ASYNC110 - nobody tells
                    await asyncio.sleep(LOOK_S)
        except TimeoutError:
            log.warning("handlers_cancelled", n=len(self.server_state.tasks))
            for task in self.server_state.tasks:
                task.cancel()
        for server in self.servers:
            await server.wait_closed()

    def _listener(self, listening: socket.socket) -> Listener:
        return Listener(
            listening,
            self._build,
            self._sockets,
            self._parse_queue,
            self._knows,
            self._tls,
            self._limits.request_timeout_s,
            self._metrics,
        )

    def _build(self, slot: OpenSocket) -> asyncio.Protocol:
        protocol = HttpProtocol(config=self.config, server_state=self.server_state, app_state=self.lifespan.state)
        protocol.slot, protocol.parse_queue = slot, self._parse_queue
        protocol.knows = self._knows if self._tls else None
        protocol.request_timeout_s = self._limits.request_timeout_s
        protocol.send_timeout_s = self._limits.send_timeout_s
        return protocol


def _uvicorn_config(app: ASGIApp, config: ServerConfig) -> uvicorn.Config:
    uvicorn_config = uvicorn.Config(
        app,
        http=HttpProtocol,
        log_config=None,
        log_level="warning",
        access_log=False,
        lifespan="off",
        server_header=False,
        proxy_headers=False,
        ws=WebSocketProtocol,
        # a message above max_frame_bytes is answered with an error; above twice that, it is cut while it is read
        ws_max_size=2 * config.max_frame_bytes,
        ws_per_message_deflate=False,
        ws_ping_interval=PING_INTERVAL_S,
        # beyond the bounds of `read_ahead` reading pauses, and then no pong is seen: the connection is not lost
        ws_ping_timeout=None,
        timeout_graceful_shutdown=STOP_TIMEOUT_S,
    )
    uvicorn_config.load()
    return uvicorn_config


def _give_up_after(listener: socket.socket, seconds: float) -> None:
    """
    Let the kernel drop connections whose peer acknowledges no data for so many seconds (TCP_USER_TIMEOUT).

    Accepted connections inherit the option from the listener. asyncio cannot close a transport that has unsent bytes,
    so a peer that stopped reading would hold its descriptor for ever; a vanished peer is found by the next ping.
    """
    if sys.platform == "linux" and listener.family in (socket.AF_INET, socket.AF_INET6):
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(seconds * 1000))
