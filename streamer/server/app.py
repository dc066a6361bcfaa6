"""The ASGI application: routes and middleware put together. Any ASGI server runs it; the daemon's is `http_server`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from prometheus_client import CollectorRegistry
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Match, Route, WebSocketRoute
from starlette.websockets import WebSocket

from streamer.access.connection_limits import Admission
from streamer.access.cross_origin import CrossOriginHeaders, Preflights
from streamer.access.forwarded import ForwardedClients, TrustedProxies
from streamer.access.keys import Keys
from streamer.access.limiter import Limiter, LocalLimiter
from streamer.access.origins import AllowedOrigins, OriginGuard
from streamer.access.page_headers import PageHeaders
from streamer.access.refusals import refusal
from streamer.config import Config
from streamer.errors import ForbiddenError, KeyRefusedError, OverloadError
from streamer.server.captions_routes import captions_routes
from streamer.server.connection import Connections
from streamer.server.interfaces import SessionService
from streamer.server.openai.routes import openai_routes
from streamer.server.openai.secrets import LocalSecrets, SecretStore
from streamer.server.page_routes import page_routes
from streamer.server.read_ahead import ReadAhead
from streamer.server.relay.routes import relay_routes
from streamer.server.rooms.interfaces import RoomService
from streamer.server.rooms.room import Room
from streamer.server.rooms.rooms import Rooms
from streamer.server.rooms.routes import room_routes
from streamer.server.state import DaemonState, LocalState
from streamer.server.status_routes import status_routes
from streamer.server.stopping import StopAnswers
from streamer.server.sub_path import SubPath


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    """What the processes that serve one port have in common."""

    limiter: Limiter
    rooms: RoomService
    secrets: SecretStore
    state: DaemonState


def build_app(
    scheduler: SessionService,
    config: Config,
    metrics: CollectorRegistry,
    *,
    keys: Keys,
    connections: Connections,
    microphone: Room | None = None,
    shared: Shared | None = None,
) -> Starlette:
    """
    Build the ASGI application.

    Args:
        scheduler: Opens sessions.
        config: `server`, `limits` and `session` are read.
        metrics: Shown by `/metrics`.
        keys: Valid API keys.
        connections: Given by a caller that announces a drain later.
        microphone: The room of the daemon's own microphone; None: it captions no microphone.
        shared: What this process has in common with others that serve the same port; None: it serves it alone.
    """
    shared = shared if shared is not None else _alone(scheduler, config, metrics, connections, microphone)
    routes = _routes(scheduler, config, keys, connections, shared)
    not_found = _NotFound(routes)
    app = Starlette(
        routes=[*routes, WebSocketRoute("/{path:path}", not_found.refuse)],
        middleware=_middleware(config, metrics, keys, shared.limiter),
        exception_handlers={
            KeyRefusedError: _refused,
            ForbiddenError: _refused,
            OverloadError: _refused,
            404: not_found.answer,
        },
    )
    app.router.redirect_slashes = False  # it would redirect to the name and path that a proxy has asked for
    return app


def _routes(
    scheduler: SessionService, config: Config, keys: Keys, connections: Connections, shared: Shared
) -> list[BaseRoute]:
    return [
        *captions_routes(scheduler, config, keys, connections, shared.rooms),
        *room_routes(config, keys, shared.rooms),
        *openai_routes(scheduler, config, keys, shared.secrets),
        *relay_routes(scheduler, config, keys),
        *status_routes(scheduler, config, keys, connections, shared.state),
        *page_routes(),
    ]


def _middleware(config: Config, metrics: CollectorRegistry, keys: Keys, limiter: Limiter) -> list[Middleware]:
    """What every request passes, the outermost first."""
    server = config.server
    return [
        Middleware(StopAnswers),
        Middleware(SubPath, root_path=server.root_path),
        Middleware(CrossOriginHeaders, origins=AllowedOrigins(server.allowed_origins)),
        Middleware(PageHeaders),
        Middleware(ForwardedClients, proxies=TrustedProxies(server.trusted_proxies)),
        Middleware(OriginGuard, config=server, are_keys_required=keys.are_required),
        Middleware(
            Admission, limits=config.limits, registry=metrics, keys=keys, limiter=limiter, n_processes=server.processes
        ),
        Middleware(Preflights),
        Middleware(ReadAhead),
    ]


def _alone(
    scheduler: SessionService,
    config: Config,
    metrics: CollectorRegistry,
    connections: Connections,
    microphone: Room | None,
) -> Shared:
    """Of one process."""
    return Shared(
        limiter=LocalLimiter(config.limits),
        rooms=Rooms(config, microphone),
        secrets=LocalSecrets(),
        state=LocalState(scheduler, connections, metrics),
    )


_UPGRADE = "this path is a websocket: connect with ws:// or wss://, or ask for the upgrade (RFC 6455)\n"


class _NotFound:
    """
    Answers where nothing is: 404 that lists the WebSocket paths, 426 for a request to one of them that asks for no
    upgrade, and a redirect from the address of a page with a slash too much.

    Args:
        routes: All that there are.
    """

    def __init__(self, routes: Sequence[BaseRoute]) -> None:
        self._sockets = [route for route in routes if isinstance(route, WebSocketRoute)]
        self._pages = [route for route in routes if isinstance(route, Route)]
        self._text = f"not found; paths for a websocket: {', '.join(route.path for route in self._sockets)}\n"

    async def answer(self, request: Request, error: Exception) -> Response:
        as_socket = {**request.scope, "type": "websocket"}
        if any(route.matches(as_socket)[0] is Match.FULL for route in self._sockets):
            return PlainTextResponse(_UPGRADE, 426, {"Upgrade": "websocket", "Connection": "Upgrade"})
        path: str = request.scope["path"].rstrip("/")
        without_slash = {**request.scope, "path": path}
        if request.scope["path"] == f"{path}/" and any(r.matches(without_slash)[0] is Match.FULL for r in self._pages):
            query = f"?{request.url.query}" if request.url.query else ""
            return RedirectResponse(f"../{path.rpartition('/')[2]}{query}")
        return PlainTextResponse(self._text, 404)

    async def refuse(self, socket: WebSocket) -> None:
        await socket.send_denial_response(PlainTextResponse(self._text, 404))


async def _refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, KeyRefusedError | ForbiddenError | OverloadError)
    return refusal(error)
