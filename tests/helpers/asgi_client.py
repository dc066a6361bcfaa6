"""The client's end of an ASGI WebSocket that may take no more messages."""

from __future__ import annotations

import asyncio

from starlette.types import Message
from starlette.websockets import WebSocket


class AsgiClient:
    """
    A client that sends its frames and then waits, and takes so many messages of the server and then no more.

    Args:
        frames: What it sends.
        n_taken: Messages that it takes, the handshake included.
        headers: Of the handshake, as ASGI holds them.
    """

    def __init__(self, *frames: str | bytes, n_taken: int, headers: tuple[tuple[bytes, bytes], ...] = ()) -> None:
        self._incoming: list[Message] = [{"type": "websocket.connect"}]
        for frame in frames:
            kind = "text" if isinstance(frame, str) else "bytes"
            self._incoming.append({"type": "websocket.receive", kind: frame})
        self._n_taken = n_taken
        self.taken: list[Message] = []
        scope = {"type": "websocket", "path": "/", "headers": headers, "query_string": b"", "subprotocols": []}
        self.socket = WebSocket(scope, self._receive, self._send)

    @property
    def taken_types(self) -> list[str]:
        """Types of the messages taken so far."""
        return [message["type"] for message in self.taken]

    async def _receive(self) -> Message:
        if not self._incoming:
            await asyncio.Event().wait()
        return self._incoming.pop(0)

    async def _send(self, message: Message) -> None:
        if len(self.taken) >= self._n_taken:
            await asyncio.Event().wait()
        self.taken.append(message)
