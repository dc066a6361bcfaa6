"""
WhisperLive as a system: its server on one model for all, and its client.

There is no way to ask it for the rest: its client waits until nothing has changed for a while, as its own does.
"""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from websockets.asyncio.client import ClientConnection

from benchmarks.rivals.environments import WHISPER_LIVE, Environment
from benchmarks.rivals.sockets import plain_socket, saying
from benchmarks.rivals.speaker import RefusedError, Speaker
from benchmarks.rivals.weights import Weights

SERVER = Path(__file__).parent / "serve_whisper_live.py"
QUIET_S = 10.0
"""After the end of the sound, how long nothing must have changed for the text to be whole."""


@dataclass(frozen=True)
class WhisperLive:
    """faster-whisper behind WhisperLive, one model for all, in batches."""

    name: str
    repeats: int
    """`same_output_threshold`: how often the open segment must come out the same to be completed; 10 by default."""
    environment: Environment | None = WHISPER_LIVE

    def command(self, python: Path, port: int, weights: Weights) -> list[str]:
        """Its own command line does not know all options of batches. -P: this file has the name of its package."""
        return [str(python), "-P", str(SERVER), str(port), str(weights.ctranslate2)]

    async def converse(self, port: int, speaker: Speaker) -> None:
        """A last segment that is never completed is final when it last changed."""
        segments = Segments()
        async with plain_socket(f"ws://127.0.0.1:{port}") as socket:
            await self._begin(socket)
            async with saying(socket, speaker):
                changed_at = time.monotonic()
                while speaker.ended_at is None or time.monotonic() < max(changed_at, speaker.ended_at) + QUIET_S:
                    with suppress(TimeoutError):
                        async with asyncio.timeout(1.0):
                            answer = json.loads(await socket.recv())
                        if segments.take(answer.get("segments", ())):
                            changed_at = time.monotonic()
                            speaker.sees(segments.final, segments.open)
            speaker.sees(f"{segments.final} {segments.open}", at=changed_at)
            await socket.send(b"END_OF_AUDIO")

    async def _begin(self, socket: ClientConnection) -> None:
        hello = {
            "uid": str(uuid.uuid4()),
            "language": "en",
            "task": "transcribe",
            "model": "as served",
            "use_vad": True,
            "audio_format": "int16",
            "send_last_n_segments": 10,
            "no_speech_thresh": 0.45,
            "clip_audio": False,
            "same_output_threshold": self.repeats,
        }
        await socket.send(json.dumps(hello))
        answer = json.loads(await socket.recv())
        if answer.get("message") != "SERVER_READY":
            raise RefusedError(json.dumps({name: answer[name] for name in answer if name != "uid"}))


@dataclass
class Segments:
    """What WhisperLive has shown: it sends its newest segments again and again."""

    completed: dict[tuple[str, str, str], None] = field(default_factory=dict)
    """By start, end and text, in the order in which they came."""
    open: str = ""

    @property
    def final(self) -> str:
        """Text of all completed segments."""
        return " ".join(text for _, _, text in self.completed)

    def take(self, segments: Sequence[Mapping[str, Any]]) -> bool:
        """Whether anything is new."""
        before = len(self.completed), self.open
        for segment in segments:
            if segment["completed"]:
                self.completed[segment["start"], segment["end"], segment["text"]] = None
        if segments:
            self.open = "" if segments[-1]["completed"] else segments[-1]["text"]
        return before != (len(self.completed), self.open)
