"""WebSockets: frames with sends that are bounded in time, and the handshake of a client that may be refused."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

from starlette.responses import Response
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from streamer.access.allowances import allowance_of
from streamer.access.decoding_budget import DecodingAccount
from streamer.access.keys import Caller, Keys, Right
from streamer.access.presented_keys import presented_key
from streamer.access.refusals import refusal
from streamer.errors import ForbiddenError, KeyRefusedError, StreamerError
from streamer.protocol.errors import wire_error
from streamer.protocol.messages import FINAL_CLOSES, PROTOCOL, encode, error_message
from streamer.server.duplex import ClientClosed, ClientGone, Transport

MAX_REASON_BYTES = 123
"""What a close frame holds (RFC 6455, 5.5)."""


class WebSocketTransport:
    """
    Carries frames over a WebSocket.

    Args:
        socket: Accepted before the first frame.
        send_timeout_s: A client that takes no message for so many seconds is gone.
    """

    def __init__(self, socket: WebSocket, send_timeout_s: float) -> None:
        self._socket, self._send_timeout_s = socket, send_timeout_s

    async def receive(self) -> str | bytes:
        """
        Wait for the next message. Cancelling is safe: no message is lost.

        Raises:
            ClientClosed: The client has closed with one of `FINAL_CLOSES`.
            ClientGone: The client has left otherwise.
        """
        message = await self._socket.receive()
        if message["type"] == "websocket.disconnect":
            raise ClientClosed if message.get("code") in FINAL_CLOSES else ClientGone
        # ASGI allows a key to be present with None, or to be absent
        text: str | None = message.get("text")
        return text if text is not None else bytes(message["bytes"])

    async def send(self, text: str) -> None:
        """
        Send one text message, then yield to the event loop, which a socket that takes the message at once does not do.

        Raises:
            ClientGone: The client has left, or took nothing for the send timeout.
        """
        async with self._sending():
            await self._socket.send_text(text)
        await asyncio.sleep(0)

    async def close(self, code: int, reason: str = "") -> None:
        """
        Close with a code and a reason; the reason is cut to what the frame holds.

        Raises:
            ClientGone: The client has left, or took nothing for the send timeout.
        """
        async with self._sending():
            await self._socket.close(code, reason.encode()[:MAX_REASON_BYTES].decode(errors="ignore"))

    @contextlib.asynccontextmanager
    async def _sending(self) -> AsyncIterator[None]:
        if self._socket.application_state is not WebSocketState.CONNECTED:
            raise ClientGone
        try:
            async with asyncio.timeout(self._send_timeout_s):
                yield
        except (TimeoutError, WebSocketDisconnect):
            raise ClientGone from None


@dataclass(frozen=True, slots=True)
class Refusal:
    """A refused handshake, for programs and for pages."""

    response: Response
    """HTTP, for programs."""
    message: str
    """For pages: the text before the close."""
    close_code: int
    """For pages."""
    subprotocol: str | None
    """For pages: a browser fails a handshake that answers none of the subprotocols it offered."""


async def refuse(socket: WebSocket, refused: Refusal, send_timeout_s: float) -> None:
    """
    Refuse a client that is not accepted yet.

    A program gets the HTTP response. Browsers hide it (a page sees only close code 1006), so a page is accepted, sent
    the message, and closed with the close code.

    Args:
        socket: Not accepted yet.
        refused: Both forms of the refusal.
        send_timeout_s: How long a page may take over the message.
    """
    if "origin" not in socket.headers:
        await socket.send_denial_response(refused.response)
        return
    transport = WebSocketTransport(socket, send_timeout_s)
    with contextlib.suppress(ClientGone):
        await socket.accept(refused.subprotocol)
        await transport.send(refused.message)
        await transport.close(refused.close_code)


async def accept(socket: WebSocket) -> None:
    """Accept a client of `captions.v1`, with its subprotocol if that was offered."""
    await socket.accept(_subprotocol(socket))


async def identify(socket: WebSocket, keys: Keys, right: Right, send_timeout_s: float) -> Caller | None:
    """
    Identify a client by its API key before it is accepted. None: the client had no valid key or right, and was refused.

    Args:
        socket: Not accepted yet.
        keys: Valid keys.
        right: Of what the path is for.
        send_timeout_s: As for `refuse`.
    """
    try:
        return keys.authorize(presented_key(socket.scope), right)
    except (KeyRefusedError, ForbiddenError) as error:
        told = Refusal(refusal(error), encode(error_message(error)), wire_error(error).close_code, _subprotocol(socket))
        await refuse(socket, told, send_timeout_s)
        return None


def account_of(socket: WebSocket) -> DecodingAccount:
    """Return what pays for the recordings of a client: the budget of its caller, as long as it is there."""
    connection = socket.scope.get("state", {}).get("connection")
    return DecodingAccount(
        allowance_of(socket.scope).decoding, lambda: connection is not None and connection.transport.is_closing()
    )


async def tell_error(transport: Transport, error: StreamerError) -> None:
    """Send the `error` message of `captions.v1`, then close with its code."""
    await transport.send(encode(error_message(error)))
    await transport.close(wire_error(error).close_code)


def _subprotocol(socket: WebSocket) -> str | None:
    return PROTOCOL if PROTOCOL in socket.scope["subprotocols"] else None
