"""One attack, and how it is carried out: over how many connections, from where, how long. It ends by itself."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from streamer.host.open_files import allow_all_files

STRANGERS = [f"127.0.0.{n}" for n in range(2, 10)]
"""Source addresses on loopback of those who have no key."""
PAUSE_S = 0.02
"""Between two writes of a connection: what matters is the daemon's work, not how busy the attacker is."""

N_VIEWERS = 200
"""Viewers of an attack that has some."""


@dataclass(frozen=True, slots=True)
class Attack:
    """One attack."""

    name: str
    opening: bytes
    """Sent once on each connection."""
    payload: Callable[[], Iterator[bytes]]
    """Sent after that, again and again; nothing: the connection is held."""
    n_connections: int = 4
    has_key: bool = True
    is_renewed: bool = False
    """Whether a connection is closed after its payload, and another one opened."""
    is_read: bool = True
    """Whether answers are read."""
    viewers: bytes = b""
    """Sent by N_VIEWERS further connections, which read what they are answered."""


async def run(attack: Attack, port: int, seconds: float) -> None:
    """Attack a daemon on loopback for so many seconds."""
    end_s = time.monotonic() + seconds
    sources = ["127.0.0.1"] if attack.has_key else STRANGERS
    allow_all_files()
    viewer = replace(attack, opening=attack.viewers, payload=lambda: iter(()), is_renewed=False)
    connections = [viewer] * (N_VIEWERS if attack.viewers else 0) + [attack] * attack.n_connections
    await asyncio.gather(
        *(attack_from(sources[n % len(sources)], one, port, end_s) for n, one in enumerate(connections))
    )


async def attack_from(source: str, attack: Attack, port: int, end_s: float) -> None:
    """Carry out an attack over one connection at a time, from one address."""
    while time.monotonic() < end_s:
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(max(0.0, end_s - time.monotonic())):
                await _converse(attack, port, source)
        await asyncio.sleep(PAUSE_S)


async def _converse(attack: Attack, port: int, source: str) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(source, 0))
    reading = asyncio.create_task(_drop(reader)) if attack.is_read else None
    try:
        writer.write(attack.opening)
        await writer.drain()
        for payload in attack.payload():
            writer.write(payload)
            await writer.drain()
            await asyncio.sleep(PAUSE_S)
        await asyncio.sleep(PAUSE_S if attack.is_renewed else 3600)
    finally:
        if reading is not None:
            reading.cancel()
        writer.transport.abort()


async def _drop(reader: asyncio.StreamReader) -> None:
    with contextlib.suppress(OSError):
        while await reader.read(65_536):
            pass
