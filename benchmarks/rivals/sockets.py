"""WebSockets of rivals: sound goes one way while messages are read the other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from websockets.asyncio.client import ClientConnection, connect

from benchmarks.rivals.speaker import Speaker

CLOSED = "closed before the last text"


def plain_socket(address: str) -> connect:
    """Messages of any size, no compression, no pings: a busy server may answer late."""
    return connect(address, max_size=None, compression=None, proxy=None, open_timeout=60, ping_interval=None)


@asynccontextmanager
async def saying(socket: ClientConnection, speaker: Speaker, end: str | bytes | None = None) -> AsyncIterator[None]:
    """While the block runs the stream is sent, then `end`. Whoever receives meets the errors of the connection."""
    sending = asyncio.create_task(_say(socket, speaker, end))
    try:
        yield
    finally:
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)


async def _say(socket: ClientConnection, speaker: Speaker, end: str | bytes | None) -> None:
    async for block in speaker.blocks():
        await socket.send(block)
    if end is not None:
        await socket.send(end)
