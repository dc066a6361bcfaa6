"""The HTTP and WebSocket application: what it is put together from. Any ASGI server runs it; ours is `http_server`."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources

from prometheus_client import CollectorRegistry
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.websockets import WebSocket

from streamer.access.connection_limits import Admission
from streamer.access.keys import Keys
from streamer.access.refusals import refusal
from streamer.access.security import OriginGuard, PageHeaders
from streamer.config import Config
from streamer.errors import KeyRefusedError
from streamer.server.captions_routes import native_routes
from streamer.server.connection import Connections
from streamer.server.interfaces import SessionService
from streamer.server.openai.routes import openai_routes
from streamer.server.relay.routes import relayed_routes
from streamer.server.rooms.room import Room
from streamer.server.rooms.rooms import Rooms
from streamer.server.status import status_routes


def build_app(
    scheduler: SessionService,
    config: Config,
    metrics: CollectorRegistry,
    *,
    keys: Keys | None = None,
    connections: Connections | None = None,
    microphone: Room | None = None,
) -> Starlette:
    """
    Build the ASGI application.

    Args:
        scheduler: Opens sessions.
        config: `server`, `limits` and `session` are read.
        metrics: What `/metrics` shows.
        keys: Who is let in; None: everybody.
        connections: For a caller who will announce a drain.
        microphone: The room of the box's own microphone; None if it captions none.
    """
    connections = connections if connections is not None else Connections()
    keys = keys if keys is not None else Keys()
    routes = [
        *native_routes(scheduler, config, keys, connections, Rooms(config, microphone)),
        *openai_routes(scheduler, config, keys),
        *relayed_routes(scheduler, config, keys),
        *status_routes(scheduler, config, keys, connections, metrics),
        *_page_routes(),
    ]
    nowhere = _Nowhere([route.path for route in routes if isinstance(route, WebSocketRoute)])
    return Starlette(
        routes=[*routes, WebSocketRoute("/{path:path}", nowhere.refuse)],
        middleware=[
            Middleware(PageHeaders),
            Middleware(OriginGuard, config=config.server),
            Middleware(Admission, limits=config.limits, registry=metrics),
        ],
        exception_handlers={KeyRefusedError: _unauthorized, 404: nowhere.answer},
    )


class _Nowhere:
    """What a client is told that asks for a path where nothing is, or speaks HTTP to a WebSocket."""

    def __init__(self, sockets: Sequence[str]) -> None:
        self._said = f"not found; paths for a websocket: {', '.join(sockets)}\n"

    async def answer(self, _: Request, error: Exception) -> Response:
        return PlainTextResponse(self._said, 404)

    async def refuse(self, socket: WebSocket) -> None:
        await socket.send_denial_response(PlainTextResponse(self._said, 404))


async def _unauthorized(_: Request, error: Exception) -> Response:
    assert isinstance(error, KeyRefusedError)
    return refusal(error)


def _page_routes() -> list[BaseRoute]:
    pages = str(resources.files("streamer.server") / "pages")

    def page(path: str, file: str) -> Route:
        async def show(_: Request) -> Response:
            return FileResponse(f"{pages}/{file}")

        return Route(path, show)

    return [
        page("/", "live.html"),
        page("/overlay", "overlay.html"),
        page("/watch", "watch.html"),
        page("/watch/{room}", "watch.html"),
        Mount("/pages", StaticFiles(directory=pages)),
    ]
