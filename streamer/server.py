"""The HTTP and WebSocket application: routes to what serves them. Any ASGI server runs it; ours is `http_server`."""

from __future__ import annotations

import time
from importlib import resources

import msgspec
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.websockets import WebSocket

from streamer import __version__, statz, websocket
from streamer.admission import Admission
from streamer.broadcast import Broadcast
from streamer.config import Config
from streamer.connection import Connection, Connections, Scheduler
from streamer.dialects.openai import openai_routes
from streamer.dialects.relayed import relayed_routes
from streamer.errors import KeyRefusedError
from streamer.keys import Caller, Keys
from streamer.protocol import Error, encode
from streamer.rooms import MICROPHONE, Rooms
from streamer.security import OriginGuard, PageHeaders, presented_key
from streamer.watch import watch, watch_events


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
    rooms: bool
    """Whether a session may speak to an audience."""


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
        microphone: The room of the box's own microphone; None if it captions none.
    """
    connections = connections if connections is not None else Connections()
    keys = keys if keys is not None else Keys()
    rooms = Rooms(config, microphone)

    async def captions(socket: WebSocket) -> None:
        caller = await _identify(socket, keys)
        if caller is not None:
            await connections.serve(Connection(socket, scheduler, config, caller, rooms))

    async def watch_room(socket: WebSocket) -> None:
        if await _identify(socket, keys) is not None:
            await watch(socket, rooms, socket.path_params.get("room", MICROPHONE))

    async def watch_room_events(request: Request) -> Response:
        keys.identify(presented_key(request.scope))
        return await watch_events(request, rooms, request.path_params.get("room", MICROPHONE))

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

    started_s = time.monotonic()

    async def show_statistics(request: Request) -> Response:
        keys.identify(presented_key(request.scope))
        uptime_s = time.monotonic() - started_s
        text = statz.render(__version__, scheduler.model, uptime_s, len(connections), scheduler.statistics())
        return PlainTextResponse(text)

    async def info(_: Request) -> Response:
        facts = Info(
            version=__version__, model=scheduler.model, languages=scheduler.languages, rooms=config.server.rooms
        )
        return Response(msgspec.json.encode(facts), media_type="application/json")

    return Starlette(
        routes=[
            WebSocketRoute("/v1/captions", captions),
            WebSocketRoute("/v1/watch", watch_room),
            WebSocketRoute("/v1/watch/{room}", watch_room),
            Route("/v1/watch/{room}", watch_room_events),
            Route("/v1/tokens", issue_token, methods=["POST"]),
            Route("/healthz", _healthy),
            Route("/readyz", ready),
            Route("/metrics", show_metrics),
            Route("/statz", show_statistics),
            Route("/info", info),
            *openai_routes(scheduler, config, keys),
            *relayed_routes(scheduler, config, keys),
            *_page_routes(),
        ],
        middleware=[
            Middleware(PageHeaders),
            Middleware(OriginGuard, config=config.server),
            Middleware(Admission, limits=config.limits, registry=metrics),
        ],
        exception_handlers={KeyRefusedError: _unauthorized},
    )


_CHALLENGE = {"WWW-Authenticate": "Bearer"}


async def _identify(socket: WebSocket, keys: Keys) -> Caller | None:
    """Who it is by its key; a client without a good one was told and sent away."""
    try:
        return keys.identify(presented_key(socket.scope))
    except KeyRefusedError as error:
        await websocket.refuse(socket, Error(code="unauthorized", message=str(error)), 401, _CHALLENGE)
        return None


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

    async def watch_page(_: Request) -> Response:
        return FileResponse(f"{pages}/watch.html")

    return [
        Route("/", live_page),
        Route("/overlay", overlay_page),
        Route("/watch", watch_page),
        Route("/watch/{room}", watch_page),
        Mount("/pages", StaticFiles(directory=pages)),
    ]
