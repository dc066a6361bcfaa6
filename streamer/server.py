"""
The HTTP and WebSocket server: routes to what serves them, and the listening socket.

`build_app` makes an ASGI application for any ASGI server. `HttpServer` runs it inside the daemon's event loop
and leaves signals alone: uvicorn by itself would close every WebSocket within 0.1 s of SIGTERM, before a
session could be drained.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
from collections.abc import Iterator, Sequence
from importlib import resources
from socket import SOCK_STREAM, create_server, getaddrinfo
from socket import socket as Socket

import msgspec
import uvicorn
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp
from starlette.websockets import WebSocket

from streamer import __version__, websocket
from streamer.broadcast import Broadcast, watch
from streamer.config import Config, ServerConfig
from streamer.connection import Connection, Connections, Scheduler
from streamer.errors import KeyRefusedError, StreamerError
from streamer.keys import Keys
from streamer.protocol import Error, encode
from streamer.security import OriginGuard, PageHeaders, presented_key

STOP_TIMEOUT_S = 5
"""How long `HttpServer.stop` waits for handlers before it cancels them."""
PING_INTERVAL_S = 20.0
"""Keeps proxies from closing a quiet connection."""


class Token(msgspec.Struct, frozen=True, kw_only=True):
    """What `POST /v1/tokens` answers."""

    token: str
    expires_at: int
    """Unix time, seconds."""


class Info(msgspec.Struct, frozen=True, kw_only=True):
    """What `/info` says, for pages that offer a choice."""

    version: str
    model: str
    languages: tuple[str, ...]


def build_app(
    scheduler: Scheduler,
    config: Config,
    metrics: CollectorRegistry,
    *,
    keys: Keys | None = None,
    connections: Connections | None = None,
    microphone: Broadcast | None = None,
) -> Starlette:
    """
    Build the ASGI application.

    Args:
        scheduler: Opens sessions.
        config: `server` and `session` are read.
        metrics: What `/metrics` shows.
        keys: Who is let in; None: everybody.
        connections: For a caller who will announce a drain.
        microphone: The session that `/v1/watch` shows; None if there is none.
    """
    connections = connections if connections is not None else Connections()
    keys = keys if keys is not None else Keys()

    async def captions(socket: WebSocket) -> None:
        if await _is_let_in(socket, keys):
            await connections.serve(Connection(socket, scheduler, config))

    async def watch_microphone(socket: WebSocket) -> None:
        if await _is_let_in(socket, keys):
            await watch(socket, microphone)

    async def issue_token(request: Request) -> Response:
        caller = keys.identify(presented_key(request.scope))
        token = keys.issue_token(caller, config.server.token_s)
        answer = Token(token=token.text, expires_at=token.expires_at)
        headers = {"Cache-Control": "no-store"}
        return Response(msgspec.json.encode(answer), headers=headers, media_type="application/json")

    async def ready(_: Request) -> Response:
        if connections.is_draining:
            return PlainTextResponse("draining\n", 503)
        return PlainTextResponse("ready\n") if scheduler.is_ready() else PlainTextResponse("not ready\n", 503)

    async def show_metrics(request: Request) -> Response:
        keys.identify(presented_key(request.scope))
        return Response(generate_latest(metrics), media_type=CONTENT_TYPE_LATEST)

    async def info(_: Request) -> Response:
        facts = Info(version=__version__, model=scheduler.model, languages=scheduler.languages)
        return Response(msgspec.json.encode(facts), media_type="application/json")

    return Starlette(
        routes=[
            WebSocketRoute("/v1/captions", captions),
            WebSocketRoute("/v1/watch", watch_microphone),
            Route("/v1/tokens", issue_token, methods=["POST"]),
            Route("/healthz", _healthy),
            Route("/readyz", ready),
            Route("/metrics", show_metrics),
            Route("/info", info),
            *_page_routes(),
        ],
        middleware=[Middleware(PageHeaders), Middleware(OriginGuard, config=config.server)],
        exception_handlers={KeyRefusedError: _unauthorized},
    )


_CHALLENGE = {"WWW-Authenticate": "Bearer"}


async def _is_let_in(socket: WebSocket, keys: Keys) -> bool:
    """Whether the key is good; a client without one was told and sent away."""
    try:
        keys.identify(presented_key(socket.scope))
    except KeyRefusedError as error:
        await websocket.refuse(socket, Error(code="unauthorized", message=str(error)), 401, _CHALLENGE)
        return False
    return True


async def _unauthorized(_: Request, error: Exception) -> Response:
    message = encode(Error(code="unauthorized", message=str(error)))
    return Response(message, 401, _CHALLENGE, "application/json")


async def _healthy(_: Request) -> Response:
    return PlainTextResponse("ok\n")


def _page_routes() -> list[Route | Mount]:
    pages = str(resources.files("streamer") / "pages")

    async def live_page(_: Request) -> Response:
        return FileResponse(f"{pages}/live.html")

    async def overlay_page(_: Request) -> Response:
        return FileResponse(f"{pages}/overlay.html")

    return [
        Route("/", live_page),
        Route("/overlay", overlay_page),
        Mount("/pages", StaticFiles(directory=pages)),
    ]


class HttpServer:
    """
    Runs the application on a TCP port, inside the running event loop.

    Args:
        app: The application.
        config: Host, port (0: any free one) and message size.
        sockets: Listening sockets that were handed over, as by systemd; they replace host and port.
    """

    def __init__(self, app: ASGIApp, config: ServerConfig, sockets: Sequence[Socket] | None = None) -> None:
        self._config = config
        self._sockets = list(sockets or ())
        self._server = _Server(_uvicorn_config(app, config))
        self._task: asyncio.Task[None] | None = None

    @property
    def port(self) -> int:
        """The port that is listened on; 0 before `start` if any free one was asked for."""
        if not self._sockets:
            return self._config.port
        return int(self._sockets[0].getsockname()[1])

    async def start(self) -> None:
        """
        Listen. Connections are taken from now on.

        Raises:
            StreamerError: The port is taken or the address is not of this machine.
        """
        if not self._sockets:
            self._sockets = [_listen(self._config.host, self._config.port)]
        self._task = asyncio.create_task(self._server.serve(sockets=self._sockets), name="http")

    async def stop(self) -> None:
        """Close the port and every connection (1012), and wait for their handlers."""
        self._server.should_exit = True
        if self._task is not None:
            await self._task


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals to the daemon."""
        yield


def _uvicorn_config(app: ASGIApp, config: ServerConfig) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        log_config=None,
        log_level="warning",
        access_log=False,
        lifespan="off",
        server_header=False,
        proxy_headers=False,
        ws="websockets-sansio",
        # one above the limit is answered with a message that says so; far above is cut while it is read
        ws_max_size=2 * config.max_frame_bytes,
        ws_per_message_deflate=False,
        ws_ping_interval=PING_INTERVAL_S,
        # reading, pongs included, pauses while a session's backlog is full: that is no lost connection
        ws_ping_timeout=None,
        timeout_graceful_shutdown=STOP_TIMEOUT_S,
    )


def _listen(host: str, port: int) -> Socket:
    try:
        family, _, _, _, address = getaddrinfo(host, port, type=SOCK_STREAM)[0]
        return create_server(address[:2], family=family, backlog=128)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        state = "in use" if error.errno == errno.EADDRINUSE else "not available"
        raise StreamerError(f"port {port} on {host} is {state}: {reason}") from None
