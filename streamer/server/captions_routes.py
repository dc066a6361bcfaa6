"""Routes of `captions.v1`: sessions over WebSocket, the JSON Schema of the messages, tokens for pages."""

from __future__ import annotations

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.websockets import WebSocket

from streamer.access.keys import Keys, Right
from streamer.access.presented_keys import presented_key
from streamer.config import Config
from streamer.protocol.schema import schema_text as make_schema
from streamer.server.connection import Connection, Connections
from streamer.server.interfaces import SessionService
from streamer.server.rooms.interfaces import RoomService
from streamer.server.websocket import WebSocketTransport, accept, account_of, identify


class Token(msgspec.Struct, frozen=True, kw_only=True):
    """Response of `POST /v1/tokens`."""

    token: str
    expires_at: int
    """Unix time, seconds."""


def captions_routes(
    scheduler: SessionService, config: Config, keys: Keys, connections: Connections, rooms: RoomService
) -> list[BaseRoute]:
    """
    Build the routes of `captions.v1`.

    Args:
        scheduler: Opens sessions.
        config: `server`, `limits` and `session` are read.
        keys: Valid API keys.
        connections: Holds the open connections.
        rooms: Rooms in which sessions may speak.
    """
    send_timeout_s = config.limits.send_timeout_s

    async def captions(socket: WebSocket) -> None:
        caller = await identify(socket, keys, Right.SPEAK, send_timeout_s)
        if caller is not None:
            await accept(socket)
            transport, room = WebSocketTransport(socket, send_timeout_s), socket.query_params.get("room")
            account = account_of(socket)
            await connections.serve(Connection(transport, scheduler, config, caller, account, rooms, room))

    async def issue_token(request: Request) -> Response:
        caller = keys.authorize(presented_key(request.scope), Right.ISSUE)
        token = keys.issue_token(caller, config.server.token_s)
        answer = msgspec.json.encode(Token(token=token.text, expires_at=token.expires_at))
        return Response(answer, headers={"Cache-Control": "no-store"}, media_type="application/json")

    schema_text = make_schema()

    async def schema(_: Request) -> Response:
        return Response(schema_text, media_type="application/schema+json")

    return [
        WebSocketRoute("/v1/captions", captions),
        Route("/v1/captions/schema.json", schema),
        Route("/v1/tokens", issue_token, methods=["POST"]),
    ]
