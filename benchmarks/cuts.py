"""
Words lost by real speech over connections that are reset 200 times, while the daemon is killed and started again.

    python -m benchmarks.cuts MANIFEST [--cuts 200] [--restarts 4] [--streams 4] [--seconds 240] [--json OUT]

The English recordings of the manifest, joined, are spoken in real time through `streamer.client` three times: twice
undisturbed, then through a proxy that resets each connection after a random time, while the daemon is stopped by
SIGKILL and SIGTERM in turn. A live text depends a little on when its steps happen to run, so the difference between the
two undisturbed texts is the measure for the third. Exit code 1 if audio was lost or a connection was not reset.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from benchmarks.arguments import number, program, results_file, whole
from benchmarks.common import argument_parser, paced, pcm16, read_recordings, some, word_errors
from benchmarks.served import daemon, free_port
from streamer.audio.pcm import SAMPLE_RATE
from streamer.client import Bye, Start, TurnEnd, connect
from streamer.evaluation.manifest import read_manifest
from tests.helpers.fault_proxy import FaultProxy, fault_proxy

TOLERANCE_S = 0.05
"""Audio that may be missing at the end of a session: less than a chunk."""
LONG_WAIT_S = 1.5


@dataclass(frozen=True)
class Talk:
    """What one client says."""

    pcm: NDArray[np.int16]
    """(n,), mono at 16 kHz."""
    text: str
    """The reference."""

    @property
    def seconds(self) -> float:
        """Of speech and pauses."""
        return len(self.pcm) / SAMPLE_RATE


@dataclass(frozen=True)
class Received:
    """What one client received."""

    text: str
    audio_s: float
    waits_s: tuple[float, ...]
    """Times of at least `LONG_WAIT_S` without an event; undisturbed, an acknowledgement comes twice a second."""


def talks(manifest: Path, n: int, seconds: float) -> list[Talk]:
    """
    Join the short English recordings of a manifest in `n` different orders, with a second of silence behind each.

    Args:
        manifest: JSON lines.
        n: Number of talks.
        seconds: Least length of each talk, if there are recordings enough.
    """
    found = [row for row in read_manifest(manifest) if row.language == "en" and row.kind == "short"]
    rows = some(found, manifest, "of English with kind short")
    pause = np.zeros(SAMPLE_RATE, np.float32)
    recordings = read_recordings(manifest, rows)
    clips = [(np.append(samples, pause), row.text) for row, samples in zip(rows, recordings, strict=True)]
    return [_talk(random.Random(seed).sample(clips, len(clips)), seconds) for seed in range(n)]


def _talk(clips: Sequence[tuple[NDArray[np.float32], str]], seconds: float) -> Talk:
    sounds, texts, n = [], [], 0
    for sound, text in clips:
        if n >= seconds * SAMPLE_RATE:
            break
        sounds.append(sound)
        texts.append(text)
        n += len(sound)
    return Talk(pcm16(np.concatenate(sounds)), " ".join(texts))


async def speak(talk: Talk, port: int) -> Received:
    """Speak in real time until the session is over, however often the connection is lost."""
    turns: dict[int, str] = {}
    audio_s, last_at_s, waits_s = 0.0, time.monotonic(), []
    async with connect(f"ws://127.0.0.1:{port}", Start(language="en")) as captions:
        async for event in captions.transcribe(paced(talk.pcm)):
            waits_s.append(time.monotonic() - last_at_s)
            last_at_s += waits_s[-1]
            match event:
                case TurnEnd():
                    turns[event.turn] = event.text
                case Bye():
                    audio_s = event.audio_s
    text = " ".join(turns[turn] for turn in sorted(turns))
    return Received(text, audio_s, tuple(wait_s for wait_s in waits_s if wait_s >= LONG_WAIT_S))


async def speak_all(said: Sequence[Talk], port: int) -> list[Received]:
    """Speak all talks at the same time."""
    return list(await asyncio.gather(*(speak(talk, port) for talk in said)))


async def undisturbed(said: Sequence[Talk], model: str) -> list[Received]:
    """Speak to a daemon that runs on, over connections that last."""
    port = free_port()
    async with daemon(port, "--model", model, variables=_places(said)):
        return await speak_all(said, port)


async def disturbed(said: Sequence[Talk], args: argparse.Namespace) -> tuple[list[Received], FaultProxy]:
    """Speak over connections that are reset, to a daemon that is stopped and started again; returns the proxy too."""
    port, random_ = free_port(), random.Random(0)
    mean_s = sum(talk.seconds for talk in said) / args.cuts
    async with fault_proxy(port) as proxy:
        proxy.lives_s = [random_.uniform(0.02, 1.2) * mean_s for _ in range(args.cuts)]
        speaking: asyncio.Task[list[Received]] | None = None
        for n in range(args.restarts + 1):
            is_last, end = n == args.restarts, signal.SIGTERM if n % 2 else signal.SIGKILL
            async with daemon(port, "--model", args.model, end=end, variables=_places(said)):
                speaking = speaking or asyncio.create_task(speak_all(said, proxy.port))
                await asyncio.wait([speaking], timeout=None if is_last else args.seconds / (args.restarts + 1))
            print(f"the daemon was stopped by {end.name}", flush=True)
        assert speaking is not None
        return speaking.result(), proxy


def _places(said: Sequence[Talk]) -> dict[str, str]:
    """A capacity at which no client is refused, however busy the machine is when the daemon measures itself."""
    return {"STREAMER_SCHEDULER_MAX_SESSIONS": str(2 * len(said))}


def _waits(playback: Sequence[Received]) -> list[float]:
    return sorted(round(wait_s, 1) for received in playback for wait_s in received.waits_s)


async def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Speak three times, and compare what was received."""
    said = talks(args.manifest, args.streams, args.seconds)
    first, second = await undisturbed(said, args.model), await undisturbed(said, args.model)
    cut, proxy = await disturbed(said, args)
    right = [talk.text for talk in said]
    plain, again, hurt = ([received.text for received in playback] for playback in (first, second, cut))
    unheard_s = [talk.seconds - received.audio_s for talk, received in zip(said, cut, strict=True)]
    return {
        "seconds_spoken": round(sum(talk.seconds for talk in said), 1),
        "cuts": proxy.n_cuts,
        "restarts": args.restarts,
        "unheard_s": round(max(unheard_s), 3),
        "waits_undisturbed_s": _waits(first),
        "waits_cut_s": _waits(cut),
        "undisturbed_against_reference": word_errors(right, plain),
        "undisturbed_again_against_reference": word_errors(right, again),
        "cut_against_reference": word_errors(right, hurt),
        "undisturbed_again_against_undisturbed": word_errors(plain, again),
        "cut_against_undisturbed": word_errors(plain, hurt),
        "texts": [list(texts) for texts in zip(plain, again, hurt, strict=True)],
    }


def main() -> None:
    """Print the figures as JSON."""
    arguments = argument_parser(__doc__)
    arguments.add_argument("--cuts", type=whole(), default=200)
    arguments.add_argument("--restarts", type=whole(0), default=4)
    arguments.add_argument("--streams", type=whole(), default=4)
    arguments.add_argument("--seconds", type=number(0.1), default=240.0, help="least length of each stream")
    arguments.add_argument("--json", type=results_file)
    args = arguments.parse_args()
    found = msgspec.to_builtins(asyncio.run(measure(args)))
    texts = found.pop("texts")
    print(json.dumps(found, indent=2))
    if args.json:
        args.json.write_text(json.dumps({**found, "texts": texts}, indent=1) + "\n")
    sys.exit(bool(found["unheard_s"] > TOLERANCE_S or found["cuts"] < args.cuts))


if __name__ == "__main__":
    program(main)
