"""The paths of the relayed dialects, and who is let in: Deepgram's `/v1/listen`, Vosk's `/vosk`."""

from __future__ import annotations

import contextlib
import secrets
from datetime import UTC, datetime

import msgspec
from starlette.responses import Response
from starlette.routing import BaseRoute, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from streamer.access.keys import Keys
from streamer.config import Config
from streamer.dialects.deepgram.protocol import DeepgramProtocol
from streamer.dialects.deepgram.request import answered_subprotocol, parse_query, shown_key
from streamer.dialects.vosk import VoskProtocol
from streamer.errors import KeyRefusedError, OverloadError, ProtocolError, StreamerError
from streamer.protocol.errors import wire_error
from streamer.server import websocket
from streamer.server.interfaces import SessionService
from streamer.server.relay.relay import Relay, SocketTransport


def relayed_routes(scheduler: SessionService, config: Config, keys: Keys) -> list[BaseRoute]:
    """
    Args:
        scheduler: Opens sessions.
        config: `server`, `limits` and `session` are read.
        keys: Who is let in.
    """

    def transport(socket: WebSocket) -> SocketTransport:
        return SocketTransport(socket, config.limits.send_timeout_s)

    async def listen(socket: WebSocket) -> None:
        request_id, offered = secrets.token_hex(16), socket.scope["subprotocols"]
        try:
            caller = keys.identify(shown_key(socket.headers, offered))
            request = parse_query(socket.query_params.multi_items(), scheduler.languages)
            created = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
            dialect = DeepgramProtocol(request, request_id, scheduler.model, created)
            relay = Relay(transport(socket), scheduler, config, caller, dialect)
            relay.begin()
        except (KeyRefusedError, ProtocolError, OverloadError) as error:
            await _refuse_listen(socket, error, request_id)
            return
        try:
            await socket.accept(answered_subprotocol(offered))
        except BaseException:
            relay.leave()
            raise
        await relay.run()

    async def vosk(socket: WebSocket) -> None:
        caller = await websocket.identify(socket, keys)
        if caller is not None:
            await socket.accept()
            await Relay(transport(socket), scheduler, config, caller, VoskProtocol()).run()

    return [WebSocketRoute("/v1/listen", listen), WebSocketRoute("/vosk", vosk)]


_WORDS = {"unauthorized": "INVALID_AUTH", "overloaded": "SERVICE_UNAVAILABLE"}
"""Deepgram's names of our codes."""


async def _refuse_listen(socket: WebSocket, error: StreamerError, request_id: str) -> None:
    """As Deepgram: an HTTP answer with the reason in a header too; a page would see nothing of that, so it is told."""
    told = wire_error(error)
    code = _WORDS.get(told.code, told.code)
    if "origin" not in socket.headers:
        body = {"err_code": code, "err_msg": str(error), "request_id": request_id}
        # a header holds no other characters than these
        reason = str(error).encode("ascii", "replace").decode().replace("\r", " ").replace("\n", " ")
        headers = {"dg-request-id": request_id, "dg-error": reason}
        await socket.send_denial_response(
            Response(msgspec.json.encode(body), told.http_status, headers, "application/json")
        )
        return
    with contextlib.suppress(WebSocketDisconnect):
        await socket.accept(answered_subprotocol(socket.scope["subprotocols"]))
        event = {"type": "Error", "variant": code, "description": str(error), "message": ""}
        await websocket.send(socket, msgspec.json.encode(event).decode())
        await websocket.close(socket, told.close_code)
