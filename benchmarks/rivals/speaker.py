"""The client's side that all systems share: sound paced like speech, and a note of what is shown and when."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

from benchmarks.rivals.heard import Heard
from benchmarks.rivals.streams import Stream
from streamer.audio.pcm import SAMPLE_RATE

CHUNK_S = 0.1


class RefusedError(Exception):
    """A server does not take a stream."""


class Speaker:
    """One stream while it is played."""

    def __init__(self, stream: Stream) -> None:
        self.stream, self.heard = stream, Heard()
        self.began_at = time.monotonic()
        """When the sound began: `blocks` sets it."""
        self.ended_at: float | None = None
        """When all of it was sent."""

    async def blocks(self) -> AsyncIterator[bytes]:
        """16-bit samples, each block once its last sample has been spoken."""
        pcm, n = self.stream.pcm, int(CHUNK_S * SAMPLE_RATE)
        self.began_at = time.monotonic()
        for at in range(0, len(pcm), n):
            block = pcm[at : at + n]
            await asyncio.sleep(max(0.0, self.began_at + (at + len(block)) / SAMPLE_RATE - time.monotonic()))
            yield block.tobytes()
        self.ended_at = time.monotonic()

    def sees(self, final: str, tail: str = "", at: float | None = None) -> None:
        """All the final text, and what else is shown; `at` for an instant that has passed."""
        self.heard.see(final, tail, (time.monotonic() if at is None else at) - self.began_at)
