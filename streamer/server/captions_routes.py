"""The native paths under `/v1`, who is let in, and what serves them: sessions, viewers of rooms, tokens for pages."""

from __future__ import annotations

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.websockets import WebSocket

from streamer.access.keys import Keys
from streamer.access.security import presented_key
from streamer.config import Config
from streamer.protocol.schema import schema_text
from streamer.server.connection import Connection, Connections
from streamer.server.interfaces import SessionService
from streamer.server.rooms.rooms import MICROPHONE, Rooms
from streamer.server.rooms.viewers import watch, watch_events
from streamer.server.websocket import WebSocketTransport, accept, identify


class Token(msgspec.Struct, frozen=True, kw_only=True):
    """What `POST /v1/tokens` answers."""

    token: str
    expires_at: int
    """Unix time, seconds."""


def native_routes(
    scheduler: SessionService, config: Config, keys: Keys, connections: Connections, rooms: Rooms
) -> list[BaseRoute]:
    """
    Args:
        scheduler: Opens sessions.
        config: `server`, `limits` and `session` are read.
        keys: Who is let in.
        connections: Holds those that are open.
        rooms: Where sessions are watched.
    """

    send_timeout_s = config.limits.send_timeout_s

    async def captions(socket: WebSocket) -> None:
        caller = await identify(socket, keys, send_timeout_s)
        if caller is not None:
            await accept(socket)
            transport, room = WebSocketTransport(socket, send_timeout_s), socket.query_params.get("room")
            await connections.serve(Connection(transport, scheduler, config, caller, rooms, room))

    async def issue_token(request: Request) -> Response:
        caller = keys.identify(presented_key(request.scope))
        token = keys.issue_token(caller, config.server.token_s)
        answer = msgspec.json.encode(Token(token=token.text, expires_at=token.expires_at))
        return Response(answer, headers={"Cache-Control": "no-store"}, media_type="application/json")

    async def schema(_: Request) -> Response:
        return Response(schema_text(), media_type="application/schema+json")

    return [
        WebSocketRoute("/v1/captions", captions),
        Route("/v1/captions/schema.json", schema),
        Route("/v1/tokens", issue_token, methods=["POST"]),
        *_watch_routes(keys, rooms, send_timeout_s),
    ]


def _watch_routes(keys: Keys, rooms: Rooms, send_timeout_s: float) -> list[BaseRoute]:
    async def over_socket(socket: WebSocket) -> None:
        if await identify(socket, keys, send_timeout_s) is not None:
            await accept(socket)
            room = socket.path_params.get("room", MICROPHONE)
            await watch(WebSocketTransport(socket, send_timeout_s), rooms, room)

    async def as_events(request: Request) -> Response:
        keys.identify(presented_key(request.scope))
        return await watch_events(request, rooms, request.path_params["room"])

    return [
        WebSocketRoute("/v1/watch", over_socket),
        WebSocketRoute("/v1/watch/{room}", over_socket),
        Route("/v1/watch/{room}", as_events),
    ]
