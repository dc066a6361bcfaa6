"""Routes of the relayed protocols over WebSocket: Deepgram's `/v1/listen`, Vosk's `/vosk` and `/`."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime

import msgspec
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, WebSocketRoute
from starlette.websockets import WebSocket

from streamer.access.keys import Caller, Keys, Right
from streamer.config import Config
from streamer.dialects.actions import Dialect
from streamer.dialects.deepgram.protocol import DeepgramProtocol
from streamer.dialects.deepgram.request import answered_subprotocol, parse_query, shown_key
from streamer.dialects.vosk import VoskProtocol
from streamer.errors import ForbiddenError, KeyRefusedError, OverloadError, ProtocolError, StreamerError
from streamer.protocol.errors import wire_error
from streamer.server.interfaces import SessionService
from streamer.server.relay.relay import Relay
from streamer.server.websocket import Refusal, WebSocketTransport, account_of, identify, refuse


def relay_routes(scheduler: SessionService, config: Config, keys: Keys) -> list[BaseRoute]:
    """
    Build the routes of the relayed protocols.

    Args:
        scheduler: Opens sessions.
        config: `server`, `limits` and `session` are read.
        keys: Valid API keys.
    """

    send_timeout_s = config.limits.send_timeout_s

    def relay_of(socket: WebSocket, caller: Caller, dialect: Dialect) -> Relay:
        transport = WebSocketTransport(socket, send_timeout_s)
        return Relay(transport, scheduler, config, caller, account_of(socket), dialect)

    async def listen(socket: WebSocket) -> None:
        request_id, offered = secrets.token_hex(16), socket.scope["subprotocols"]
        try:
            caller = keys.authorize(shown_key(socket.headers, offered), Right.SPEAK)
            request = parse_query(socket.query_params.multi_items(), scheduler.languages)
            created = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
            dialect = DeepgramProtocol(request, request_id, scheduler.model, created)
            relay = relay_of(socket, caller, dialect)
            await relay.begin()
        except (KeyRefusedError, ForbiddenError, ProtocolError, OverloadError) as error:
            await refuse(socket, _refusal(socket, error, request_id), send_timeout_s)
            return
        await _run(relay, socket, answered_subprotocol(offered))

    async def vosk(socket: WebSocket) -> None:
        caller = await identify(socket, keys, Right.SPEAK, send_timeout_s)
        if caller is not None:
            relay = relay_of(socket, caller, VoskProtocol())
            await relay.begin()
            await _run(relay, socket, None)

    async def vosk_without_path(socket: WebSocket) -> None:
        if socket.scope["subprotocols"]:  # no client of vosk-server offers any: another protocol is meant
            await socket.send_denial_response(PlainTextResponse(_NO_SUBPROTOCOLS, 404))
            return
        await vosk(socket)

    # vosk-server serves every path, and its samples connect to ws://localhost:2700
    return [
        WebSocketRoute("/v1/listen", listen),
        WebSocketRoute("/vosk", vosk),
        WebSocketRoute("/", vosk_without_path),
    ]


async def _run(relay: Relay, socket: WebSocket, subprotocol: str | None) -> None:
    """Accept a client whose sessions may be open already, and carry its connection to the close."""
    try:
        await socket.accept(subprotocol)
        await relay.run()
    finally:
        relay.leave()


_NO_SUBPROTOCOLS = "this path speaks Vosk's protocol, without subprotocols; captions.v1 is spoken at /v1/captions\n"

_WORDS = {"unauthorized": "INVALID_AUTH", "overloaded": "SERVICE_UNAVAILABLE"}
"""Deepgram's names of our codes."""


def _refusal(socket: WebSocket, error: StreamerError, request_id: str) -> Refusal:
    """As Deepgram refuses: the reason stands in the body and in the header `dg-error`."""
    told = wire_error(error)
    code = _WORDS.get(told.code, told.code)
    body = {"err_code": code, "err_msg": str(error), "request_id": request_id}
    # a header holds visible ASCII alone, on one line
    reason = "".join(char if " " <= char <= "~" else "?" for char in str(error))
    headers = {"dg-request-id": request_id, "dg-error": reason}
    event = {"type": "Error", "variant": code, "description": str(error), "message": ""}
    return Refusal(
        Response(msgspec.json.encode(body), told.http_status, headers, "application/json"),
        msgspec.json.encode(event).decode(),
        told.close_code,
        answered_subprotocol(socket.scope["subprotocols"]),
    )
