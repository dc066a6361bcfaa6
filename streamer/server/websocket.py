"""What every WebSocket handler needs: who comes, sends that are bounded in time, and a reader beside a writer."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine

from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from streamer.access.keys import Caller, Keys
from streamer.access.refusals import refusal
from streamer.access.security import presented_key
from streamer.errors import EngineError, KeyRefusedError, StreamerError
from streamer.protocol.errors import wire_error
from streamer.protocol.messages import PROTOCOL, encode, error_message

SEND_TIMEOUT_S = 20.0
"""A client that takes no message for so long has lost its connection."""

MAX_REASON_BYTES = 123


async def accept(socket: WebSocket) -> None:
    """Accept, with our subprotocol if it was offered: a browser fails a handshake that answers none."""
    await socket.accept(subprotocol=PROTOCOL if PROTOCOL in socket.scope["subprotocols"] else None)


async def identify(socket: WebSocket, keys: Keys) -> Caller | None:
    """Who a client not accepted yet is, by its key; None: it has no good one, was told so, and is sent away."""
    try:
        return keys.identify(presented_key(socket.scope))
    except KeyRefusedError as error:
        await _refuse(socket, error)
        return None


async def _refuse(socket: WebSocket, error: KeyRefusedError) -> None:
    """A program gets an HTTP answer; a page sees nothing of that but 1006, so it is accepted, told, and closed."""
    if "origin" not in socket.headers:
        await socket.send_denial_response(refusal(error))
        return
    with contextlib.suppress(WebSocketDisconnect):
        await accept(socket)
        await send(socket, encode(error_message(error)))
        await close(socket, wire_error(error).close_code)


async def receive(socket: WebSocket) -> str | bytes:
    """
    Wait for the next message. Cancelling is safe: no message is lost.

    Raises:
        WebSocketDisconnect: The client has left.
    """
    message = await socket.receive()
    if message["type"] == "websocket.disconnect":
        raise WebSocketDisconnect(message["code"])
    # ASGI allows a key to be there with None, or not at all
    text: str | None = message.get("text")
    return text if text is not None else bytes(message["bytes"])


async def send(socket: WebSocket, text: str, *, timeout_s: float = SEND_TIMEOUT_S) -> None:
    """
    Send one text message.

    Raises:
        WebSocketDisconnect: The client has left, or took nothing for `timeout_s`.
    """
    if socket.application_state is not WebSocketState.CONNECTED:
        raise WebSocketDisconnect(1006)
    async with _lost_after(timeout_s):
        await socket.send_text(text)


async def close(socket: WebSocket, code: int, reason: str = "", *, timeout_s: float = SEND_TIMEOUT_S) -> None:
    """Close with a code, and a reason, cut to what the frame holds; raises as `send` does."""
    if socket.application_state is not WebSocketState.CONNECTED:
        raise WebSocketDisconnect(1006)
    async with _lost_after(timeout_s):
        await socket.close(code, reason.encode()[:MAX_REASON_BYTES].decode(errors="ignore"))


@contextlib.asynccontextmanager
async def _lost_after(timeout_s: float) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(timeout_s):
            yield
    except TimeoutError:
        raise WebSocketDisconnect(1006) from None


@contextlib.asynccontextmanager
async def telling_errors(tell: Callable[[StreamerError], Awaitable[None]]) -> AsyncIterator[None]:
    """
    The frame of one connection: whoever has left is told nothing, anybody else is told why it ends.

    An unforeseen error is told as a fault of the daemon, and raised.

    Args:
        tell: Says why, and closes; may raise WebSocketDisconnect.
    """
    try:
        yield
    except WebSocketDisconnect:
        pass  # nobody is there to be told
    except StreamerError as error:
        with contextlib.suppress(WebSocketDisconnect):
            await tell(error)
    except Exception:
        with contextlib.suppress(WebSocketDisconnect):
            await tell(EngineError("a fault of the daemon; its log says more"))
        raise


async def run_until_first(*coroutines: Coroutine[object, object, None]) -> None:
    """Run them side by side until one ends, cancel the others, and raise what it raised."""
    tasks = [asyncio.create_task(coroutine) for coroutine in coroutines]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    # of two that ended at once, the one named first counts
    next(task for task in tasks if task in done).result()
