"""
Live Whisper systems side by side: the same weights and the same recordings, paced like speech, on one machine.

    python -m benchmarks.rivals MANIFEST --streams 1,2,4,8 --seconds 40 --out FOLDER

Each system runs in its own virtual environment, installed from PyPI when it is not there yet (whisper-live builds
PyAudio: apt-get install gcc python3-dev portaudio19-dev). For each number of streams a fresh server is started, warmed
with one recording, and spoken to by so many clients at once. Nothing else should run on the machine.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from datetime import date
from pathlib import Path

import msgspec
from websockets.exceptions import WebSocketException

from benchmarks.arguments import manifest_file, number, program, whole
from benchmarks.rivals.environments import python_of, versions_of
from benchmarks.rivals.figures import Figures, Outcome, figures, has_given_up
from benchmarks.rivals.plot import plot
from benchmarks.rivals.server import SetUpError, serving
from benchmarks.rivals.speaker import RefusedError, Speaker
from benchmarks.rivals.streams import Stream, make_stream
from benchmarks.rivals.systems import SYSTEMS, System
from benchmarks.rivals.table import page
from benchmarks.rivals.weights import Weights, find_weights
from benchmarks.served import free_port
from streamer.errors import ConfigError, StreamerError
from streamer.evaluation.bench import read_clips
from streamer.evaluation.scoring import word_scorer
from streamer.host.cpu import cpuinfo

STAGGER_S = 0.13
"""Between the starts of two streams."""
PATIENCE_S = 30.0
"""After the end of its sound a stream that is not over has failed."""
NAMED = ("torch", "ctranslate2", "faster-whisper", "whisper-live", "whisperlivekit")
"""Packages whose versions the page tells; the figures have all of them."""


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """The whole comparison, as written to JSON."""

    facts: dict[str, str]
    packages: dict[str, list[str]]
    """Everything installed beside each system."""
    runs: dict[str, list[Figures]]


def main() -> int:
    """Measure, writing the page anew after each run; 1 if a system could not be measured."""
    args = _arguments()
    # killed like interrupted: servers are ended, not left behind
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    return _measure_all(args)


def _measure_all(args: argparse.Namespace) -> int:
    systems, recordings = _chosen(args.systems), read_clips(args.manifest)
    args.out.mkdir(parents=True, exist_ok=True)
    streams = [make_stream(recordings, args.seconds, args.seed, n) for n in range(max(args.streams))]
    comparison = Comparison(args, find_weights(args.model, args.out), streams)
    n_failed = 0
    for system in systems:
        try:
            comparison.measure(system)
        except SetUpError as error:
            n_failed += 1
            print(f"{system.name}: {error}", file=sys.stderr)
    return 1 if n_failed else 0


def _arguments() -> argparse.Namespace:
    arguments = argparse.ArgumentParser(description=(__doc__ or "").strip().splitlines()[0])
    arguments.add_argument("manifest", type=manifest_file)
    arguments.add_argument("--model", default="tiny.en")
    arguments.add_argument("--streams", type=_counts, default=[1, 2, 4, 8], help="as in 1,2,4,8")
    arguments.add_argument("--seconds", type=number(0.1), default=40.0, help="length of each stream at least")
    arguments.add_argument("--seed", type=int, default=7)
    arguments.add_argument("--systems", nargs="*", default=(), help="beginnings of their names; all by default")
    arguments.add_argument("--give-up", type=whole(), default=2, help="after so many numbers of streams not sustained")
    arguments.add_argument("--environments", type=Path, default=Path("build/rivals"), help="where rivals are installed")
    arguments.add_argument("--out", type=Path, required=True, help="folder of the results and logs")
    return arguments.parse_args()


def _counts(text: str) -> list[int]:
    numbers = text.split(",")
    if not all(n.isdecimal() and int(n) for n in numbers):
        raise argparse.ArgumentTypeError(f"{text!r}: expected whole numbers from 1 on, as in 1,2,4,8")
    return sorted(set(map(int, numbers)))


def _chosen(beginnings: Sequence[str]) -> list[System]:
    chosen = [system for system in SYSTEMS if system.name.startswith(tuple(beginnings) or "")]
    if not chosen:
        raise ConfigError(f"--systems {' '.join(beginnings)}: expected some of {[system.name for system in SYSTEMS]}")
    return chosen


class Comparison:
    """
    All that was measured so far.

    Args:
        args: The command line.
        weights: For every system.
        streams: As many as the largest number asks for.
    """

    def __init__(self, args: argparse.Namespace, weights: Weights, streams: Sequence[Stream]) -> None:
        self._args, self._weights, self._streams = args, weights, streams
        self._score = word_scorer()
        self._result = Result(facts=facts(args), packages={}, runs={})

    def measure(self, system: System) -> None:
        """
        One system with more and more streams.

        Raises:
            SetUpError: It cannot be installed or started.
        """
        python = python_of(system.environment, self._args.environments)
        self._result.packages[system.name] = versions_of(python)
        runs: list[Figures] = []
        for n in self._args.streams:
            run = asyncio.run(self._run(system, python, n))
            print(msgspec.json.encode(run).decode(), flush=True)
            runs.append(run)
            self._result.runs[system.name] = runs
            self._write()
            if has_given_up(runs, self._args.give_up):
                break

    async def _run(self, system: System, python: Path, n: int) -> Figures:
        port, log = free_port(), self._args.out / f"{re.sub(r'[^a-z0-9.]+', '-', system.name.lower())}.log"
        async with serving(system.command(python, port, self._weights), port, log) as watch:
            await speak(system, port, warm_up(self._streams[0]), 0.0)
            watching = asyncio.create_task(watch.run())
            speeches = [speak(system, port, stream, i * STAGGER_S) for i, stream in enumerate(self._streams[:n])]
            outcomes = await asyncio.gather(*speeches)
            usage = watch.usage()
            watching.cancel()
        return figures(system.name, outcomes, usage, self._score)

    def _write(self) -> None:
        out, result = self._args.out, self._result
        title = f"Live systems side by side, {self._weights.name}"
        named = sorted(
            {v for all_of in result.packages.values() for v in all_of if v.split("==")[0].replace("_", "-") in NAMED}
        )
        told = {**result.facts, "versions": ", ".join(named)}
        (out / "rivals.json").write_bytes(msgspec.json.format(msgspec.json.encode(result), indent=1) + b"\n")
        (out / "rivals.md").write_text(page(title, told, result.runs), encoding="utf-8")
        (out / "rivals.svg").write_text(plot(title, result.runs), encoding="utf-8")


def warm_up(stream: Stream) -> Stream:
    """The first utterance alone: a server that loads its model for the first client has loaded it then."""
    first = stream.utterances[0]
    return Stream(stream.pcm[: int(first.end_s * 16_000)], (first,))


async def speak(system: System, port: int, stream: Stream, delay_s: float) -> Outcome:
    """One client, from its start to its end."""
    await asyncio.sleep(delay_s)
    speaker, refusal, failure = Speaker(stream), "", ""
    try:
        async with asyncio.timeout(stream.duration_s + PATIENCE_S):
            await system.converse(port, speaker)
    except RefusedError as error:
        refusal = str(error)
    except TimeoutError:
        failure = f"not over {PATIENCE_S:g} s after the end of the sound"
    except (OSError, WebSocketException, StreamerError) as error:
        failure = f"{type(error).__name__}: {error}"
    return Outcome(stream, speaker.heard, refusal, failure)


def facts(args: argparse.Namespace) -> dict[str, str]:
    """What the figures are of."""
    described = subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parent,
    )
    models = [line.partition(":")[2].strip() for line in cpuinfo().splitlines() if line.startswith("model name")]
    return {
        "date": date.today().isoformat(),
        "machine": f"{os.cpu_count()} cores, {models[0] if models else platform.processor() or platform.machine()}",
        "load before": f"{os.getloadavg()[0]:.2f}",
        "commit": described.stdout.strip() or "unknown",
        "streams": f"{args.seconds:g} s or little more each, seed {args.seed}, Python {platform.python_version()}",
    }


if __name__ == "__main__":
    program(main)
