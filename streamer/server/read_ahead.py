"""
Reads WebSockets ahead of the application, within bounds, so that control frames are answered while audio waits.

A ping stands behind all audio that its client sent before it. While a session's backlog is full the application takes
no messages; if the server read no further, a client that sends minutes of audio at once would get no pong, and would
cut the connection. Beyond the bounds TCP slows the sender.

A text waits as its bytes: a single emoji would make it take four times as many.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from streamer.access.allowances import Allowance, allowance_of
from streamer.protocol.messages import FINAL_CLOSES
from streamer.server.turnstile import Turnstile

FAST_BYTES = 16 * 1024 * 1024
"""Messages of one connection that are read as fast as they come: eight minutes of 16-bit samples at 16 kHz."""
MOST_BYTES = 28 * 1024 * 1024
"""Messages of one connection that may wait; between `FAST_BYTES` and this they are read at `SLOW_BYTES_PER_S`."""
SLOW_BYTES_PER_S = 512 * 1024
"""A ping behind the 10 MB that the kernels of both sides hold is reached within 20 s, a usual timeout."""
ALL_BYTES = 64 * 1024 * 1024
"""Messages of all connections that may wait; none has more than it leaves to the others, but each has one."""
CALLER_BYTES = 32 * 1024 * 1024
"""Messages of the connections of one caller that may wait; none has more than PART times what it leaves to the others,
but each has one: one connection alone may have 28 MB, 16 have 2 MB each."""
PART = 8
OVERHEAD_BYTES = 256
"""What a message counts as beside its text or bytes."""
LONG_TEXT = 32_768
"""Bytes from which on a text is handed on in a turn of its own: 2,000 past turns take 20 ms in one piece."""
UTF8 = "utf8"
"""Key of a message whose text is in bytes, as the server of the daemon gives it; it is valid UTF-8."""


class ReadAhead:
    """
    ASGI middleware.

    Args:
        app: The application.
        fast_bytes: See `FAST_BYTES`.
        most_bytes: See `MOST_BYTES`.
        all_bytes: See `ALL_BYTES`.
        caller_bytes: See `CALLER_BYTES`.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        fast_bytes: int = FAST_BYTES,
        most_bytes: int = MOST_BYTES,
        all_bytes: int = ALL_BYTES,
        caller_bytes: int = CALLER_BYTES,
    ) -> None:
        self.fast_bytes, self.most_bytes, self.all_bytes = fast_bytes, most_bytes, all_bytes
        self.caller_bytes = caller_bytes
        self.n_bytes = 0
        """Bytes that wait on all connections."""
        self.long_texts = Turnstile()
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "websocket":
            await self._app(scope, receive, send)
            return
        waiting = _WaitingMessages(self, allowance_of(scope), receive)
        reading = asyncio.create_task(waiting.read(), name="read ahead")
        try:
            await self._app(scope, waiting.take, send)
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
            waiting.clear()


class _WaitingMessages:
    """Messages of one connection that were read and not taken."""

    def __init__(self, all_: ReadAhead, allowance: Allowance, receive: Receive) -> None:
        self._all, self._allowance, self._receive = all_, allowance, receive
        self._messages: deque[Message] = deque()
        self._n_bytes = 0
        self._changed = asyncio.Event()
        self._failure: Exception | None = None

    async def read(self) -> None:
        """Read messages up to `websocket.disconnect`, or until reading fails, which `take` raises."""
        try:
            while True:
                message = _in_bytes(await self._receive())
                self._put(message)
                if message["type"] == "websocket.disconnect":
                    return
                await self._wait_for_room(_size(message))
        except Exception as error:  # noqa: BLE001 - raised by `take`
            self._failure = error
            self._changed.set()

    async def take(self) -> Message:
        """
        Wait for the next message. Cancelling is safe: no message is lost.

        A client that has closed for good is not heard to the end: its `websocket.disconnect` comes next.
        """
        while not self._messages:
            if self._failure is not None:
                raise self._failure
            await self._change()
        if len(self._messages[0].get(UTF8, b"")) >= LONG_TEXT:
            await self._all.long_texts.pass_through()
        message = self._messages.popleft()
        self._count(-_size(message))
        return _decoded(message)

    def clear(self) -> None:
        """Drop what waits."""
        self._messages.clear()
        self._count(-self._n_bytes)

    def _put(self, message: Message) -> None:
        if message["type"] == "websocket.disconnect" and message.get("code") in FINAL_CLOSES:
            self.clear()
        self._messages.append(message)
        self._count(_size(message))

    async def _wait_for_room(self, n_bytes: int) -> None:
        while self._messages and self._n_bytes >= self._share:
            await self._change()
        if self._n_bytes >= self._all.fast_bytes:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(n_bytes / SLOW_BYTES_PER_S):
                    while self._n_bytes >= self._all.fast_bytes:
                        await self._change()

    @property
    def _share(self) -> int:
        """Bytes from which on this connection reads no further."""
        left_by_all = self._all.all_bytes - self._all.n_bytes
        left_by_caller = self._all.caller_bytes - self._allowance.n_ahead
        return min(self._all.most_bytes, left_by_all, PART * left_by_caller)

    def _count(self, n_bytes: int) -> None:
        self._n_bytes += n_bytes
        self._all.n_bytes += n_bytes
        self._allowance.n_ahead += n_bytes
        self._changed.set()

    async def _change(self) -> None:
        self._changed.clear()
        await self._changed.wait()


def _in_bytes(message: Message) -> Message:
    """A message of any server, its text in bytes."""
    text = message.get("text")
    return message if text is None else {"type": message["type"], UTF8: text.encode()}


def _decoded(message: Message) -> Message:
    """A message as an application knows it."""
    return message if UTF8 not in message else {"type": message["type"], "text": message[UTF8].decode()}


def _size(message: Message) -> int:
    return OVERHEAD_BYTES + len(message.get(UTF8) or message.get("bytes") or b"")
