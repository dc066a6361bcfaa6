"""A TCP proxy on loopback whose connections can be cut, as a network does it: at once, in the middle of anything."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager


class CuttingProxy:
    """
    Args:
        port: Where connections are passed on to.
        cuts: Bytes after which the first, second, … connection is cut, counted on the way to the daemon.
    """

    def __init__(self, port: int, cuts: Sequence[int] = ()) -> None:
        self.port = 0
        self.n_connections = 0
        self._target, self._cuts = port, list(cuts)
        self._open: set[asyncio.StreamWriter] = set()

    def url(self) -> str:
        """Where clients connect."""
        return f"ws://127.0.0.1:{self.port}"

    def cut(self) -> None:
        """Cut every connection now."""
        for writer in self._open:
            writer.transport.abort()
        self._open.clear()

    def move(self, port: int, *, cut: bool = True) -> None:
        """Pass connections on to another port from now on, as if another daemon had come up."""
        self._target = port
        if cut:
            self.cut()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass one connection on."""
        self.n_connections += 1
        limit = self._cuts.pop(0) if self._cuts else None
        try:
            there = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.transport.abort()
            return
        self._open |= {writer, there[1]}
        await asyncio.gather(self._pass(reader, there[1], limit), self._pass(there[0], writer, None))

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, limit: int | None) -> None:
        n = 0
        try:
            while data := await reader.read(4096):
                n += len(data)
                if limit is not None and n > limit:
                    self.cut()
                    return
                writer.write(data)
                await writer.drain()
            writer.write_eof()
        except (OSError, RuntimeError):
            writer.transport.abort()


@asynccontextmanager
async def cutting_proxy(port: int, cuts: Sequence[int] = ()) -> AsyncIterator[CuttingProxy]:
    """A proxy in front of a port of this machine."""
    proxy = CuttingProxy(port, cuts)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        proxy.cut()
        server.close()
