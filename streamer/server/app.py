"""The ASGI application: routes and middleware put together. Any ASGI server runs it; the daemon's is `http_server`."""

from __future__ import annotations

from collections.abc import Sequence

from prometheus_client import CollectorRegistry
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Match, WebSocketRoute
from starlette.websockets import WebSocket

from streamer.access.connection_limits import Admission
from streamer.access.keys import Keys
from streamer.access.origins import OriginGuard
from streamer.access.page_headers import PageHeaders
from streamer.access.refusals import refusal
from streamer.config import Config
from streamer.errors import ForbiddenError, KeyRefusedError
from streamer.server.captions_routes import captions_routes
from streamer.server.connection import Connections
from streamer.server.interfaces import SessionService
from streamer.server.openai.routes import openai_routes
from streamer.server.page_routes import page_routes
from streamer.server.read_ahead import ReadAhead
from streamer.server.relay.routes import relay_routes
from streamer.server.rooms.room import Room
from streamer.server.rooms.rooms import Rooms
from streamer.server.rooms.routes import room_routes
from streamer.server.status_routes import status_routes
from streamer.server.stopping import StopAnswers


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
        metrics: Shown by `/metrics`.
        keys: Valid API keys; None: no key is needed.
        connections: Given by a caller that announces a drain later.
        microphone: The room of the daemon's own microphone; None: it captions no microphone.
    """
    connections = connections if connections is not None else Connections()
    keys = keys if keys is not None else Keys()
    rooms = Rooms(config, microphone)
    routes = [
        *captions_routes(scheduler, config, keys, connections, rooms),
        *room_routes(config, keys, rooms),
        *openai_routes(scheduler, config, keys),
        *relay_routes(scheduler, config, keys),
        *status_routes(scheduler, config, keys, connections, metrics),
        *page_routes(),
    ]
    not_found = _NotFound([route for route in routes if isinstance(route, WebSocketRoute)])
    return Starlette(
        routes=[*routes, WebSocketRoute("/{path:path}", not_found.refuse)],
        middleware=[
            Middleware(StopAnswers),
            Middleware(PageHeaders),
            Middleware(OriginGuard, config=config.server, are_keys_required=keys.are_required),
            Middleware(Admission, limits=config.limits, registry=metrics, keys=keys),
            Middleware(ReadAhead),
        ],
        exception_handlers={KeyRefusedError: _refused, ForbiddenError: _refused, 404: not_found.answer},
    )


_UPGRADE = "this path is a websocket: connect with ws:// or wss://, or ask for the upgrade (RFC 6455)\n"


class _NotFound:
    """404 responses that list the WebSocket paths, and 426 for a request to one of them that asks for no upgrade."""

    def __init__(self, sockets: Sequence[WebSocketRoute]) -> None:
        self._sockets = sockets
        self._text = f"not found; paths for a websocket: {', '.join(route.path for route in sockets)}\n"

    async def answer(self, request: Request, error: Exception) -> Response:
        as_socket = {**request.scope, "type": "websocket"}
        if any(route.matches(as_socket)[0] is Match.FULL for route in self._sockets):
            return PlainTextResponse(_UPGRADE, 426, {"Upgrade": "websocket", "Connection": "Upgrade"})
        return PlainTextResponse(self._text, 404)

    async def refuse(self, socket: WebSocket) -> None:
        await socket.send_denial_response(PlainTextResponse(self._text, 404))


async def _refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, KeyRefusedError | ForbiddenError)
    return refusal(error)
