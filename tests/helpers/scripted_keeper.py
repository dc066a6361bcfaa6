"""
A keeper without a cluster: its engines are scripted and listen in its own process, for as long as its gateway stays.

    python -m tests.helpers.scripted_keeper DESCRIPTOR
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys

from streamer.remote import roster
from tests.helpers.tcp_engines import TcpEngine

COMMAND = (sys.executable, "-m", "tests.helpers.scripted_keeper")


async def serve(connection: socket.socket) -> None:
    """Serve one gateway until it leaves."""
    reader, writer = await asyncio.open_connection(sock=connection)
    keep = roster.from_gateway(await reader.readline())
    assert isinstance(keep, roster.Keep)
    async with contextlib.AsyncExitStack() as stack:
        engines = [TcpEngine(index, fingerprint=keep.begin.config.model.name) for index in range(keep.count)]
        ready = [await stack.enter_async_context(engine.open()) for engine in engines]
        writer.write(roster.line(roster.Bounds(count=keep.count, most=max(keep.count, keep.most))))
        leaving = asyncio.create_task(reader.read())
        while not leaving.done():
            writer.write(roster.line(roster.Roster(n=len(ready), ready=tuple(ready))))
            await asyncio.wait({leaving}, timeout=0.1)
        os._exit(0)


if __name__ == "__main__":
    asyncio.run(serve(socket.socket(fileno=int(sys.argv[1]))))
