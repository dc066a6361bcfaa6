"""Plays one finished recording to a session of a running scheduler as if it were live."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import numpy as np
from numpy.typing import NDArray

from streamer.audio.pcm import SAMPLE_RATE
from streamer.evaluation.latency import LatencyTracker, LiveTranscript
from streamer.protocol.events import Bye, Event
from streamer.scheduling.session_handle import SessionHandle

CHUNK_S = 0.1
"""Audio fed at once."""


async def play(
    stream: SessionHandle, samples: NDArray[np.float32], *, realtime: bool
) -> AsyncIterator[tuple[float, Event]]:
    """
    Feed a recording to a session and end the session; yields every event with the stream time at which it came.

    Closing the iterator early stops the feeding and leaves the session open.

    Args:
        stream: A session that has received nothing yet.
        samples: (n,), mono at 16 kHz.
        realtime: Feed at the speed of speech; otherwise as fast as the session takes audio.
    """
    loop = asyncio.get_running_loop()
    started = loop.time()
    feeding = asyncio.create_task(_feed(stream, samples, started if realtime else None))
    try:
        async for event in stream:
            yield (loop.time() - started if realtime else stream.received_s), event
            if feeding.done():
                feeding.result()
    finally:
        feeding.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await feeding


async def transcribe_live(stream: SessionHandle, samples: NDArray[np.float32], *, realtime: bool) -> LiveTranscript:
    """
    Play a recording to a session and collect its transcript.

    Args:
        stream: A session that has received nothing yet.
        samples: (n,), mono at 16 kHz.
        realtime: Feed at the speed of speech: the latencies of the transcript mean something only then.
    """
    tracker = LatencyTracker(len(samples) / SAMPLE_RATE)
    async for now_s, event in play(stream, samples, realtime=realtime):
        tracker.see(event, now_s)
        if isinstance(event, Bye):
            break
    return tracker.transcript


async def _feed(stream: SessionHandle, samples: NDArray[np.float32], started: float | None) -> None:
    n = int(CHUNK_S * SAMPLE_RATE)
    loop = asyncio.get_running_loop()
    for at in range(0, len(samples), n):
        chunk = samples[at : at + n]
        if started is not None:
            # a chunk exists once its last sample has been spoken
            await asyncio.sleep(max(0.0, started + (at + len(chunk)) / SAMPLE_RATE - loop.time()))
        await stream.feed(chunk)
    stream.end()
