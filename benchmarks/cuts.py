"""
Real speech over connections that are cut again and again, and a daemon that is killed and restarted meanwhile.

    python -m benchmarks.cuts MANIFEST [--cuts 200] [--restarts 4] [--streams 4] [--seconds 240] [--json OUT]

The English recordings of the manifest, joined, are spoken in real time through `streamer.client` three times: twice
undisturbed, then through a proxy that resets each connection after a random time, while the daemon is
stopped by SIGKILL and SIGTERM in turn. A live text depends a little on when each step happens to run: how far the two
undisturbed texts differ is the measure for the third. Exit code 1 if a second of sound was not heard, or a cut missing.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import signal
import sys
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jiwer
import numpy as np
from numpy.typing import NDArray
from whisper_normalizer.english import EnglishTextNormalizer

from benchmarks.served import daemon, free_port, pcm16
from streamer.audio.files import read_audio
from streamer.client.client import Bye, Start, TurnEnd, connect
from streamer.evaluation.manifest import read_manifest
from tests.helpers.fault_proxy import FaultProxy, fault_proxy

RATE = 16_000
CHUNK_S = 0.1
TOLERANCE_S = 0.05
LONG_WAIT_S = 1.5


@dataclass(frozen=True)
class Talk:
    """What one client says, and what is right."""

    pcm: NDArray[np.int16]
    text: str

    @property
    def seconds(self) -> float:
        """Length."""
        return len(self.pcm) / RATE


@dataclass(frozen=True)
class Heard:
    """What one client got."""

    text: str
    audio_s: float
    waits_s: tuple[float, ...]
    """Times without any event, from `LONG_WAIT_S`: undisturbed, an acknowledgement comes twice a second."""


def talks(manifest: Path, n: int, seconds: float) -> list[Talk]:
    """`n` different mixes of the short English recordings, each at least so long."""
    rows = [row for row in read_manifest(manifest) if row.language == "en" and row.kind == "short"]
    clips = [(np.append(read_audio(manifest.parent / row.file), np.zeros(RATE, np.float32)), row.text) for row in rows]
    return [_talk(random.Random(seed).sample(clips, len(clips)), seconds) for seed in range(n)]


def _talk(clips: Sequence[tuple[NDArray[np.float32], str]], seconds: float) -> Talk:
    sounds, texts, n = [], [], 0
    for sound, text in clips:
        if n >= seconds * RATE:
            break
        sounds.append(sound)
        texts.append(text)
        n += len(sound)
    return Talk(pcm16(np.concatenate(sounds)), " ".join(texts))


async def speak(talk: Talk, port: int) -> Heard:
    """Say it in real time, whatever becomes of the connections."""
    turns: dict[int, str] = {}
    audio_s, heard_s, waits_s = 0.0, time.monotonic(), []
    async with connect(f"ws://127.0.0.1:{port}", Start(language="en")) as captions:
        async for event in captions.transcribe(paced(talk.pcm)):
            waits_s.append(time.monotonic() - heard_s)
            heard_s += waits_s[-1]
            match event:
                case TurnEnd():
                    turns[event.turn] = event.text
                case Bye():
                    audio_s = event.audio_s
    text = " ".join(turns[turn] for turn in sorted(turns))
    return Heard(text, audio_s, tuple(wait_s for wait_s in waits_s if wait_s >= LONG_WAIT_S))


async def paced(pcm: NDArray[np.int16]) -> AsyncIterator[bytes]:
    """Tenths of a second, in real time."""
    size, due_s = round(RATE * CHUNK_S), time.monotonic()
    for at in range(0, len(pcm), size):
        yield pcm[at : at + size].tobytes()
        due_s += CHUNK_S
        await asyncio.sleep(max(0.0, due_s - time.monotonic()))


async def speak_all(said: Sequence[Talk], port: int) -> list[Heard]:
    """All at once."""
    return list(await asyncio.gather(*(speak(talk, port) for talk in said)))


async def undisturbed(said: Sequence[Talk], model: str) -> list[Heard]:
    """By a daemon and over connections that last."""
    port = free_port()
    async with daemon(port, "--model", model, **_places(said)):
        return await speak_all(said, port)


async def disturbed(said: Sequence[Talk], args: argparse.Namespace) -> tuple[list[Heard], FaultProxy]:
    """By daemons and over connections that do not."""
    port, random_ = free_port(), random.Random(0)
    mean_s = sum(talk.seconds for talk in said) / args.cuts
    async with fault_proxy(port) as proxy:
        proxy.lives_s = [random_.uniform(0.02, 1.2) * mean_s for _ in range(args.cuts)]
        speaking: asyncio.Task[list[Heard]] | None = None
        for n in range(args.restarts + 1):
            is_last, end = n == args.restarts, signal.SIGTERM if n % 2 else signal.SIGKILL
            async with daemon(port, "--model", args.model, end=end, **_places(said)):
                speaking = speaking or asyncio.create_task(speak_all(said, proxy.port))
                await asyncio.wait([speaking], timeout=None if is_last else args.seconds / (args.restarts + 1))
            print(f"the daemon was stopped by {end.name}", flush=True)
        assert speaking is not None
        return speaking.result(), proxy


def _places(said: Sequence[Talk]) -> dict[str, str]:
    """Nobody is refused, however busy the machine is when a daemon measures itself."""
    return {"STREAMER_SCHEDULER_MAX_SESSIONS": str(2 * len(said))}


def _waits(playback: Sequence[Heard]) -> list[float]:
    return sorted(round(wait_s, 1) for heard in playback for wait_s in heard.waits_s)


def errors(references: Sequence[str], texts: Sequence[str]) -> dict[str, int]:
    """Words that differ, all texts together."""
    normalise = EnglishTextNormalizer()
    counted = jiwer.process_words([normalise(text) for text in references], [normalise(text) for text in texts])
    n_words = counted.hits + counted.substitutions + counted.deletions
    return {
        "words": n_words,
        "substituted": counted.substitutions,
        "missing": counted.deletions,
        "added": counted.insertions,
    }


async def measure(args: argparse.Namespace) -> dict[str, Any]:
    """The three performances, compared."""
    said = talks(args.manifest, args.streams, args.seconds)
    first, second = await undisturbed(said, args.model), await undisturbed(said, args.model)
    cut, proxy = await disturbed(said, args)
    right = [talk.text for talk in said]
    plain, again, hurt = ([heard.text for heard in playback] for playback in (first, second, cut))
    unheard_s = [talk.seconds - heard.audio_s for talk, heard in zip(said, cut, strict=True)]
    return {
        "seconds_spoken": round(sum(talk.seconds for talk in said), 1),
        "cuts": proxy.n_cuts,
        "restarts": args.restarts,
        "unheard_s": round(max(unheard_s), 3),
        "waits_undisturbed_s": _waits(first),
        "waits_cut_s": _waits(cut),
        "undisturbed_against_reference": errors(right, plain),
        "undisturbed_again_against_reference": errors(right, again),
        "cut_against_reference": errors(right, hurt),
        "undisturbed_again_against_undisturbed": errors(plain, again),
        "cut_against_undisturbed": errors(plain, hurt),
        "texts": [list(texts) for texts in zip(plain, again, hurt, strict=True)],
    }


def main() -> None:
    """Run, and say what came of it."""
    arguments = argparse.ArgumentParser()
    arguments.add_argument("manifest", type=Path)
    arguments.add_argument("--model", default="tiny.en")
    arguments.add_argument("--cuts", type=int, default=200)
    arguments.add_argument("--restarts", type=int, default=4)
    arguments.add_argument("--streams", type=int, default=4)
    arguments.add_argument("--seconds", type=float, default=240.0, help="each stream speaks at least so long")
    arguments.add_argument("--json", type=Path)
    args = arguments.parse_args()
    found = asyncio.run(measure(args))
    texts = found.pop("texts")
    print(json.dumps(found, indent=2))
    if args.json:
        args.json.write_text(json.dumps({**found, "texts": texts}, indent=1) + "\n")
    sys.exit(bool(found["unheard_s"] > TOLERANCE_S or found["cuts"] < args.cuts))


if __name__ == "__main__":
    main()
