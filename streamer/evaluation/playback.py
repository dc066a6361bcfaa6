"""A finished recording played to a session as if it were live, and what the session said when."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from streamer.audio.mel import SAMPLE_RATE
from streamer.protocol.events import Bye, Caption, Event, TurnEnd, Word
from streamer.scheduling.session_handle import SessionHandle

CHUNK_S = 0.1


@dataclass(slots=True)
class LiveTranscript:
    """Everything one session said, and how long each word took."""

    duration_s: float
    turns: list[TurnEnd] = field(default_factory=list)
    first_sight_s: list[float] = field(default_factory=list)
    """For each word: from its end to when it was first shown, in any form, in its place."""
    commit_s: list[float] = field(default_factory=list)
    """For each word: from its end, as first shown, to when it was stable."""
    n_rewritten: int = 0
    """Partial words that were replaced or withdrawn after they had been shown."""

    @property
    def text(self) -> str:
        """All turns."""
        return " ".join(turn.text for turn in self.turns if turn.text)


async def play(
    stream: SessionHandle, samples: NDArray[np.float32], *, realtime: bool
) -> AsyncIterator[tuple[float, Event]]:
    """
    Feed a recording and end the session; yields each event with the stream time at which it came.

    Args:
        stream: Fresh.
        samples: Mono at 16 kHz.
        realtime: At the speed of speech; otherwise as fast as the session takes it.
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
    """Play a recording to a fresh session and collect what it says; latencies mean something only in real time."""
    watch = LatencyTracker(len(samples) / SAMPLE_RATE)
    async for now_s, event in play(stream, samples, realtime=realtime):
        watch.see(event, now_s)
        if isinstance(event, Bye):
            break
    return watch.transcript


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


class LatencyTracker:
    """
    Follows each place of each turn from first sight to stable.

    Args:
        duration_s: Of the recording.
    """

    def __init__(self, duration_s: float) -> None:
        self.transcript = LiveTranscript(duration_s=duration_s)
        self._turn = -1
        self._shown: list[str] = []
        self._n_stable = 0

    def see(self, event: Event, now_s: float) -> None:
        """Take an event that came at this stream time."""
        match event:
            case Caption(turn=turn, words=tuple(words)):
                self._see_words(turn, words, now_s)
            case TurnEnd(turn=turn, words=tuple(words)):
                self._see_words(turn, words, now_s)
                self.transcript.turns.append(event)

    def _see_words(self, turn: int, words: tuple[Word, ...], now_s: float) -> None:
        if turn != self._turn:
            self._turn, self._shown, self._n_stable = turn, [], 0
        old, new = self._shown, [word.text for word in words]
        fresh = words[len(old) :]
        self.transcript.first_sight_s += [now_s - word.end_s for word in fresh]
        stable = sum(word.stable for word in words)
        self.transcript.commit_s += [now_s - word.end_s for word in words[self._n_stable : stable]]
        kept = sum(a == b for a, b in zip(old, new, strict=False))
        self.transcript.n_rewritten += len(old) - kept
        self._shown, self._n_stable = new, stable
