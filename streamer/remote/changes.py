"""What the pools of engines have in common: waiting for an engine that begins or stops to answer, and their memory."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Protocol

from streamer.remote.link import EngineLink


class Place(Protocol):
    """Where an engine is reached, while it is."""

    @property
    def link(self) -> EngineLink | None:
        """To the engine, while it answers."""


class Changes:
    """A change that several wait for, and the next one after it."""

    def __init__(self) -> None:
        self._next = asyncio.Event()

    async def wait(self) -> None:
        """Wait for the next change."""
        await self._next.wait()

    def tell(self) -> None:
        """Wake all who wait; who waits from now on waits for another change."""
        change, self._next = self._next, asyncio.Event()
        change.set()


def cache_bytes(places: Iterable[Place]) -> list[tuple[int, int]]:
    """Bytes of keys and values of text and of audio, of each engine that answers."""
    links = [place.link for place in places if place.link]
    return [(link.vitals.text_bytes, link.vitals.audio_bytes) for link in links]
