"""One client of OpenAI's Realtime API over a WebSocket: the handshake, and the dialect that is relayed."""

from __future__ import annotations

import secrets

import msgspec
from starlette.responses import Response
from starlette.websockets import WebSocket

from streamer.access.keys import Caller
from streamer.access.refusals import refusal_headers
from streamer.config import Config
from streamer.dialects.openai.errors import error_detail, http_status
from streamer.dialects.openai.http import JSON, error_body
from streamer.dialects.openai.keys import REALTIME
from streamer.dialects.openai.realtime import RealtimeProtocol
from streamer.dialects.openai.realtime_dialect import RealtimeDialect
from streamer.dialects.openai.session import Settings
from streamer.errors import StreamerError
from streamer.protocol.errors import wire_error
from streamer.server.interfaces import SessionService
from streamer.server.relay.relay import Relay
from streamer.server.websocket import Refusal, WebSocketTransport, account_of, refuse


async def serve_realtime(
    socket: WebSocket, scheduler: SessionService, config: Config, settings: Settings, caller: Caller
) -> None:
    """
    Serve one client from the handshake to the close.

    Args:
        socket: Not accepted yet.
        scheduler: Opens native sessions.
        config: `server` and `limits` for the bounds, `session` for the defaults.
        settings: In force before the client's first update.
        caller: Owner of the client's key.
    """
    protocol = RealtimeProtocol(
        f"sess_{secrets.token_hex(8)}",
        scheduler.model,
        scheduler.languages,
        settings,
        config.session,
        is_beta="realtime=v1" in socket.headers.get("openai-beta", ""),
        # base64 makes a third more of audio, and within twice the bound the socket has room for it
        max_frame_bytes=config.server.max_frame_bytes * 3 // 2,
    )
    transport = WebSocketTransport(socket, config.limits.send_timeout_s)
    relay = Relay(transport, scheduler, config, caller, account_of(socket), RealtimeDialect(protocol))
    await relay.begin()
    await socket.accept(_subprotocol(socket))
    await relay.run()


async def refuse_realtime(socket: WebSocket, error: StreamerError, send_timeout_s: float) -> None:
    """
    Refuse a client without a valid key or right, in OpenAI's words.

    Args:
        socket: Not accepted yet.
        error: Why the key is refused.
        send_timeout_s: How long a page may take over the message.
    """
    event = {"type": "error", "event_id": "event_1", "error": error_detail(error)}
    refused = Refusal(
        Response(error_body(error), http_status(error), refusal_headers(error), JSON),
        msgspec.json.encode(event).decode(),
        wire_error(error).close_code,
        _subprotocol(socket),
    )
    await refuse(socket, refused, send_timeout_s)


def _subprotocol(socket: WebSocket) -> str | None:
    return REALTIME if REALTIME in socket.scope["subprotocols"] else None
