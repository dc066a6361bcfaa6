"""A network that fails: a proxy on loopback between a client and a daemon."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager


class FaultProxy:
    """
    Forwards bytes.

    What tests set: `cut_after`, bytes of a connection from client to daemon after which both ends are reset, or
    `lives_s`, seconds, taken from the lists one a connection; clearing `flows` holds every byte back, as a radio link
    does that is gone; `target_port`, where the next connections lead, as if another daemon had come up there.
    """

    def __init__(self, target_port: int, cut_after: Sequence[int] = ()) -> None:
        self.target_port = target_port
        self.cut_after = list(cut_after)
        self.lives_s: list[float] = []
        self.n_connections = self.n_cuts = 0
        self.flows = asyncio.Event()
        self.flows.set()
        self.port = 0
        self._writers: set[asyncio.StreamWriter] = set()

    @property
    def url(self) -> str:
        """Where clients connect."""
        return f"ws://127.0.0.1:{self.port}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        self.n_connections += 1
        try:
            there_reader, there_writer = await asyncio.open_connection("127.0.0.1", self.target_port)
        except ConnectionError:
            writer.transport.abort()
            return
        allowed = self.cut_after.pop(0) if self.cut_after else None
        both = (writer, there_writer)
        timer = asyncio.get_running_loop().call_later(self.lives_s.pop(0), self._cut, both) if self.lives_s else None
        self._writers |= {*both}
        try:
            await asyncio.gather(
                self._pump(reader, there_writer, allowed, both), self._pump(there_reader, writer, None, both)
            )
        except ConnectionError:
            pass
        finally:
            if timer:
                timer.cancel()
            for end in both:
                end.transport.abort()
            self._writers -= {*both}

    def cut(self) -> None:
        """Reset every connection there is."""
        if self._writers:
            self._cut(tuple(self._writers))

    def _cut(self, both: tuple[asyncio.StreamWriter, ...]) -> None:
        self.n_cuts += 1
        for end in both:
            end.transport.abort()

    async def _pump(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        allowed: int | None,
        both: tuple[asyncio.StreamWriter, ...],
    ) -> None:
        while data := await reader.read(65536):
            await self.flows.wait()
            writer.write(data)
            await writer.drain()
            if allowed is not None and (allowed := allowed - len(data)) <= 0:
                self._cut(both)
                return
        writer.close()


@asynccontextmanager
async def fault_proxy(target_port: int, cut_after: Sequence[int] = ()) -> AsyncIterator[FaultProxy]:
    """A running one."""
    proxy = FaultProxy(target_port, cut_after)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    async with server:
        yield proxy
        proxy.flows.set()
        server.close()
        for writer in list(proxy._writers):
            writer.transport.abort()
