"""
Engine processes that another process keeps alive: a gateway connects to each, again and again.

Each engine has a listening Unix socket that outlives it. While its process is replaced, a new connection waits there
until the next process is ready.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import structlog

from streamer.remote import wire
from streamer.remote.changes import Changes
from streamer.remote.link import EngineLink, read_ready, run_link

RETRY_S = 0.1
"""Pause before the next try to connect, seconds."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where an engine is reached."""

    name: str
    path: Path
    """Of its Unix socket."""


class JoinedEngine:
    """
    One engine, and the connection to its present process.

    Args:
        address: Of the engine.
        fingerprint: Of the weights that it must have.
        on_change: Called when it begins or stops to answer.
    """

    is_wanted = True
    """Always: there are as many engines as are configured."""

    def __init__(self, address: Address, fingerprint: str, on_change: Callable[[], None]) -> None:
        self.name, self._path = address.name, address.path
        self.link: EngineLink | None = None
        self.pid = 0
        self._fingerprint, self._on_change = fingerprint, on_change
        self._n_joined = 0

    @property
    def is_lost(self) -> bool:
        """Whether it does not answer, or its process is being replaced."""
        return self.link is None or not self.link.is_answering

    @property
    def n_restarts(self) -> int:
        """Times that it was connected to again."""
        return max(0, self._n_joined - 1)

    async def run(self) -> None:
        """Stay connected until cancelled."""
        while True:
            try:
                await self._join()
            except wire.WireError as error:
                log.error("engine_message_unreadable", engine=self.name, error=str(error))  # noqa: TRY400 - it says all
            except (OSError, asyncio.IncompleteReadError):
                pass
            await asyncio.sleep(RETRY_S)

    async def _join(self) -> None:
        """Use one connection until it ends."""
        reader, writer = await asyncio.open_unix_connection(self._path)
        try:
            await self._use(await read_ready(reader), reader, writer)
        finally:
            self.link = None
            writer.transport.abort()

    async def _use(self, ready: wire.Ready, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if ready.facts.fingerprint != self._fingerprint:
            raise wire.WireError("its weights are others than those of the sessions: restart the daemon")
        self.link, self.pid = EngineLink(self.name, writer.write), ready.pid
        self.link.on_change = self._on_change
        self._n_joined += 1
        log.info("engine_joined", engine=self.name, pid=self.pid)
        self._on_change()
        await run_link(self.link, reader)


class JoinedPool:
    """
    All engines of a machine, as one of several gateways reaches them.

    Args:
        addresses: At least one.
        fingerprint: Of the weights that all must have.
    """

    def __init__(self, addresses: Sequence[Address], fingerprint: str) -> None:
        self._changes = Changes()
        self.places = [JoinedEngine(address, fingerprint, self._changes.tell) for address in addresses]
        self.has_given_up = False
        """Never: the process that keeps them alive ends its gateways when it gives up."""

    async def changed(self) -> None:
        """Wait until an engine begins or stops to answer."""
        await self._changes.wait()

    async def run(self) -> None:
        """Stay connected to all engines until cancelled."""
        async with asyncio.TaskGroup() as group:
            for place in self.places:
                group.create_task(place.run())
