"""Routes of `/v1/watch`: viewers of a room, over WebSocket and as server-sent events."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.websockets import WebSocket

from streamer.access.keys import Keys, Right
from streamer.access.owners import share_of
from streamer.access.places import Places
from streamer.access.presented_keys import presented_key
from streamer.config import Config
from streamer.server.rooms.interfaces import RoomService
from streamer.server.rooms.rooms import MICROPHONE
from streamer.server.rooms.viewers import watch, watch_events
from streamer.server.turnstile import Turnstile
from streamer.server.websocket import WebSocketTransport, accept, identify


def room_routes(config: Config, keys: Keys, rooms: RoomService) -> list[BaseRoute]:
    """
    Build the routes of viewers.

    Args:
        config: `limits.send_timeout_s` is read.
        keys: Valid API keys.
        rooms: Rooms of the daemon.
    """
    send_timeout_s = config.limits.send_timeout_s
    places, past = Places(config.limits.max_viewers, "viewers", retry_after_s=30.0), Turnstile()

    async def watch_socket(socket: WebSocket) -> None:
        if await identify(socket, keys, Right.WATCH, send_timeout_s) is not None:
            await accept(socket)
            room = socket.path_params.get("room", MICROPHONE)
            transport, place = WebSocketTransport(socket, send_timeout_s), places.taken(share_of(socket.scope, keys))
            await watch(transport, rooms, room, place, past)

    async def stream_events(request: Request) -> Response:
        keys.authorize(presented_key(request.scope), Right.WATCH)
        place = places.taken(share_of(request.scope, keys))
        return await watch_events(request, rooms, request.path_params["room"], place, past)

    return [
        WebSocketRoute("/v1/watch", watch_socket),
        WebSocketRoute("/v1/watch/{room}", watch_socket),
        Route("/v1/watch/{room}", stream_events),
    ]
