"""What is compared: how each system is started, and how its client talks. Several settings are several systems."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from benchmarks.rivals.environments import FASTER_WHISPER, Environment
from benchmarks.rivals.sockets import CLOSED, plain_socket, saying
from benchmarks.rivals.speaker import RefusedError, Speaker
from benchmarks.rivals.weights import Weights
from benchmarks.rivals.whisper_live import WhisperLive
from benchmarks.rivals.whisperlivekit import COALESCE, WhisperLiveKit
from streamer.client import AudioFormat, Caption, Start, TurnEnd, connect
from streamer.errors import OverloadError

SERVER = Path(__file__).parent / "serve_local_agreement.py"
CORES = os.cpu_count() or 1


class System(Protocol):
    """One system with one setting."""

    @property
    def name(self) -> str:
        """In tables and file names."""

    @property
    def environment(self) -> Environment | None:
        """Where it runs; None for this repository's own."""

    def command(self, python: Path, port: int, weights: Weights) -> list[str]:
        """Starts its server on loopback."""

    async def converse(self, port: int, speaker: Speaker) -> None:
        """
        Say everything and see everything.

        Raises:
            RefusedError: The server does not take the stream.
        """


@dataclass(frozen=True)
class Streamer:
    """This repository, as `streamer serve` comes."""

    name: str = "streamer"
    environment: Environment | None = None

    def command(self, python: Path, port: int, weights: Weights) -> list[str]:
        """The daemon by the model's name: it finds the same folder."""
        return [str(python), "-m", "streamer", "serve", "--port", str(port), "--model", weights.name]

    async def converse(self, port: int, speaker: Speaker) -> None:
        """Stable text is final."""
        start = Start(audio=AudioFormat(), language="en", words=False)
        turns: list[str] = []
        try:
            async with connect(f"ws://127.0.0.1:{port}", start) as captions:
                async for event in captions.transcribe(speaker.blocks()):
                    match event:
                        case Caption():
                            speaker.sees(" ".join([*turns, event.stable]), event.partial)
                        case TurnEnd():
                            turns.append(event.text)
                            speaker.sees(" ".join(turns))
        except OverloadError as error:
            raise RefusedError(str(error)) from error


@dataclass(frozen=True)
class LocalAgreement:
    """The plain loop over faster-whisper, `serve_local_agreement.py`."""

    step_s: float
    n_workers: int
    """Buffers decoded at the same time; they share the cores."""
    environment: Environment | None = FASTER_WHISPER

    @property
    def name(self) -> str:
        """With its setting."""
        return f"faster-whisper, {self.step_s:g} s, {self.n_workers} x {CORES // self.n_workers} threads"

    def command(self, python: Path, port: int, weights: Weights) -> list[str]:
        """Our own script with its interpreter."""
        pool = ["--workers", str(self.n_workers), "--threads", str(CORES // self.n_workers)]
        return [str(python), "-P", str(SERVER), str(port), str(weights.ctranslate2), "--step", str(self.step_s), *pool]

    async def converse(self, port: int, speaker: Speaker) -> None:
        """Until the answer to "end"."""
        final = ""
        async with plain_socket(f"ws://127.0.0.1:{port}") as socket, saying(socket, speaker, "end"):
            async for message in socket:
                answer = json.loads(message)
                final = f"{final} {answer['final']}"
                speaker.sees(final, answer["tail"])
                if answer["is_last"]:
                    return
        raise ConnectionError(CLOSED)


SYSTEMS: tuple[System, ...] = (
    Streamer(),
    *(LocalAgreement(step_s, n_workers) for step_s in (1.0, 2.0) for n_workers in sorted({1, CORES})),
    WhisperLive("whisper-live", repeats=10),
    WhisperLive("whisper-live, 4 repeats", repeats=4),
    WhisperLiveKit("whisperlivekit, LocalAgreement", "localagreement", COALESCE),
    WhisperLiveKit(
        "whisperlivekit, LocalAgreement without VAC", "localagreement", ("--no-vac", "--min-chunk-size", "1")
    ),
    WhisperLiveKit("whisperlivekit, AlignAtt", "simulstreaming", ("--min-chunk-size", "1", *COALESCE)),
)
