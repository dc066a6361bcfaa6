"""
Live captions while an engine process is killed, or stands still: words, delays, and how long it is away.

    python -m benchmarks.lost_engines MANIFEST [--streams 8] [--engines 2] [--where ray] [--seconds 60] [--json OUT]
    python -m benchmarks.lost_engines MANIFEST --kinds undisturbed,replaced --gateways 2 --seconds 300

The same real speech is spoken in real time three times, each time to a new daemon with engine processes: undisturbed,
with SIGKILL of one engine after a third of the time, and with SIGSTOP of one for `--stopped` seconds. The kind
`headless` kills the head (GCS) of a Ray cluster instead, and `replaced` replaces every engine, then every gateway, one
after the other, again and again. Exit code 1 if a client met an error or was refused, the word errors differ by more
than 0.5 points from those of the undisturbed run, the P95 of the time from a word to its commit is more than 0.3 s
above it, a word took more than 4 s, or the engine was not back within 15 s.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import re
import signal
import sys
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec
import psutil

from benchmarks.arguments import listed, number, one_of, program, results_file, whole
from benchmarks.common import WordErrors, argument_parser, paced, word_errors
from benchmarks.cuts import Talk, talks
from benchmarks.served import daemon, free_port, get, metrics
from streamer.client import Caption, Start, TurnEnd, Word, connect
from streamer.errors import StreamerError
from streamer.evaluation.percentiles import percentile
from streamer.gateways.parent import REPLACE
from streamer.protocol.events import words_of

KINDS = ("undisturbed", "killed", "stopped")
MORE_KINDS = (*KINDS, "replaced", "headless")
MOST_POINTS = 0.005
"""Difference of the word error rate."""
MOST_P95_S = 0.3
"""Difference of the P95 of the commit delay, seconds."""
MOST_COMMIT_S = 4.0
MOST_AWAY_S = 15.0
SETTLE_S = 3.0
"""Between two replacements, seconds: an engine takes work again two seconds after it is back."""
GATEWAY = "streamer.gateways.process"
"""In the command of a gateway that is one of several."""
ENGINE = re.compile(r"^engine (\S+) pid (\d+) .*?(alive|lost)$", re.MULTILINE)


@dataclass
class Heard:
    """What one client received."""

    turns: dict[int, str] = field(default_factory=dict)
    commit_s: list[float] = field(default_factory=list)
    """From the end of each word to when the client knew it for sure, seconds."""
    error: str = ""

    @property
    def text(self) -> str:
        """Of all turns."""
        return " ".join(self.turns[turn] for turn in sorted(self.turns))


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """Of one run."""

    errors: tuple[str, ...]
    words: WordErrors
    commit_p50_s: float
    commit_p95_s: float
    commit_max_s: float
    away_s: float
    """From the fault until every engine was alive, seconds."""
    replaced: tuple[int, int]
    """Engines and gateways that were replaced."""
    refused: float
    """Sessions that were refused."""
    moves: float
    resent: float
    sent_kb_per_audio_s: float
    gateway_cpu_ms_per_audio_s: float
    """Of the daemon, and of the gateways below it that are there at the end: those that were replaced are left out."""
    gateway_mb: float
    """Of the same processes together."""
    engines_mb: tuple[float, ...]


async def speak(talk: Talk, port: int) -> Heard:
    """Speak in real time to the end."""
    heard, began_s = Heard(), 0.0
    counts: dict[int, int] = {}

    async def chunks() -> AsyncIterator[bytes]:
        nonlocal began_s
        began_s = time.monotonic()
        async for chunk in paced(talk.pcm):
            yield chunk

    def note(turn: int, words: Sequence[Word]) -> None:
        new = words[counts.get(turn, 0) :]
        heard.commit_s += [time.monotonic() - began_s - word.end_s for word in new]
        counts[turn] = max(counts.get(turn, 0), len(words))

    try:
        async with connect(f"ws://127.0.0.1:{port}", Start(language="en")) as captions:
            async for event in captions.transcribe(chunks()):
                match event:
                    case Caption():
                        note(event.turn, [word for word in words_of(event) if word.stable])
                    case TurnEnd():
                        note(event.turn, words_of(event))
                        heard.turns[event.turn] = event.text
    except StreamerError as error:
        heard.error = str(error)
    return heard


async def engines(port: int) -> dict[str, tuple[int, bool]]:
    """Pid of each engine, and whether it is alive."""
    page = await get(port, "/statz") or ""
    return {name: (int(pid), state == "alive") for name, pid, state in ENGINE.findall(page)}


def gateways(daemon: psutil.Process) -> list[psutil.Process]:
    """The daemon, which is the gateway itself or the parent of several, and those."""
    found = [daemon]
    for child in daemon.children():
        with contextlib.suppress(psutil.NoSuchProcess):
            found += [child] if GATEWAY in child.cmdline() else []
    return found


def cpu_s(processes: Sequence[psutil.Process]) -> dict[int, float]:
    """Processor time of each process so far, seconds, by its pid."""
    times = {process.pid: process.cpu_times() for process in processes}
    return {pid: each.user + each.system for pid, each in times.items()}


def head() -> int:
    """Pid of the head of the daemon's Ray cluster."""
    below = psutil.Process().children(recursive=True)
    return next(int(each.pid) for each in below if each.name() == "gcs_server")


@dataclass
class Disturbance:
    """What a daemon met, and how it bore it."""

    away_s: float = 0.0
    """From the fault until every engine was alive, the longest time, seconds."""
    n_engines: int = 0
    n_gateways: int = 0
    """Replaced."""


async def until_alive(port: int) -> float:
    """Wait until all engines are alive; seconds."""
    began_s = time.monotonic()
    await asyncio.sleep(1.0)  # until the gateway has noticed
    while True:
        await asyncio.sleep(0.2)
        found = await engines(port)
        if found and all(is_alive for _, is_alive in found.values()):
            return time.monotonic() - began_s


async def disturb(port: int, kind: str, after_s: float, stopped_s: float) -> Disturbance:
    """Meet one engine with the fault, and wait until all are alive again."""
    if kind == "undisturbed":
        return Disturbance()
    await asyncio.sleep(after_s)
    pid = head() if kind == "headless" else (await engines(port))["0"][0]
    os.kill(pid, signal.SIGSTOP if kind == "stopped" else signal.SIGKILL)
    waited_s = 0.0
    if kind == "stopped":
        await asyncio.sleep(stopped_s)
        os.kill(pid, signal.SIGCONT)
        waited_s = stopped_s
    return Disturbance(away_s=waited_s + await until_alive(port))


async def n_replaced(port: int) -> float:
    """Gateways that were replaced on demand; 0 while nobody answers."""
    return (await metrics(port)).get("streamer_gateways_replaced_total", 0.0)


async def replace_all(port: int, daemon_pid: int, n_gateways: int, met: Disturbance) -> None:
    """Replace every engine, then every gateway, one after the other, until cancelled."""
    while True:
        for name in sorted(await engines(port)):
            os.kill((await engines(port))[name][0], signal.SIGKILL)  # SIGTERM is for their gateway
            met.away_s = max(met.away_s, await until_alive(port))
            met.n_engines += 1
            await asyncio.sleep(SETTLE_S)
        if n_gateways > 1:
            os.kill(daemon_pid, REPLACE)
            while await n_replaced(port) < met.n_gateways + n_gateways:  # noqa: ASYNC110 - no event tells it
                await asyncio.sleep(0.2)
            met.n_gateways += n_gateways
            await asyncio.sleep(SETTLE_S)


class Run(NamedTuple):
    """What all clients received, and what the daemon met."""

    heard: list[Heard]
    met: Disturbance


async def speak_all(said: Sequence[Talk], kind: str, daemon_pid: int, port: int, args: argparse.Namespace) -> Run:
    """Speak all talks while the daemon meets the fault."""
    speaking = asyncio.gather(*(speak(talk, port) for talk in said))
    if kind != "replaced":
        met = await disturb(port, kind, args.seconds / 3, args.stopped)
        return Run(await speaking, met)
    met = Disturbance()
    replacing = asyncio.create_task(replace_all(port, daemon_pid, args.gateways, met))
    heard = await speaking
    replacing.cancel()
    await asyncio.gather(replacing, return_exceptions=True)
    await until_alive(port)  # the last engine may have been killed a moment ago
    return Run(heard, met)


async def run(kind: str, said: Sequence[Talk], args: argparse.Namespace) -> Figures:
    """One run of one kind."""
    port = free_port()
    variables = {
        "STREAMER_SCHEDULER_MAX_SESSIONS": str(args.places or 2 * len(said)),
        "STREAMER_ENGINES_COUNT": str(args.engines),
        "STREAMER_SERVER_PROCESSES": str(args.gateways),
    }
    async with daemon(port, "--model", args.model, "--engines", args.where, variables=variables) as process:
        before = cpu_s(gateways(process))
        heard, met = await speak_all(said, kind, process.pid, port, args)
        found, there = await metrics(port), gateways(process)
        after = cpu_s(there)
        pids = [pid for pid, _ in (await engines(port)).values()]
        memory = [psutil.Process(pid).memory_info().rss / 1e6 for pid in pids]
        rss = sum(each.memory_info().rss for each in there) / 1e6
    commit_s = [each for one in heard for each in one.commit_s]
    audio_s = sum(talk.seconds for talk in said)
    return Figures(
        errors=tuple(one.error for one in heard if one.error),
        words=word_errors([talk.text for talk in said], [one.text for one in heard]),
        commit_p50_s=percentile(commit_s, 50),
        commit_p95_s=percentile(commit_s, 95),
        commit_max_s=max(commit_s),
        away_s=met.away_s,
        replaced=(met.n_engines, met.n_gateways),
        refused=found["streamer_sessions_refused_total"],
        moves=found["streamer_engine_moves_total"],
        resent=found["streamer_engine_resent_total"],
        sent_kb_per_audio_s=found["streamer_engine_sent_bytes_total"] / audio_s / 1e3,
        gateway_cpu_ms_per_audio_s=sum(after[pid] - before.get(pid, 0.0) for pid in after) / audio_s * 1e3,
        gateway_mb=rss,
        engines_mb=tuple(memory),
    )


def wrong(kind: str, found: Figures, plain: Figures, stopped_s: float) -> list[str]:
    """What a run with a fault has lost against the undisturbed one, in words."""
    away_s = found.away_s - (stopped_s if kind == "stopped" else 0.0)
    checks = {
        f"errors at clients: {found.errors}": bool(found.errors),
        f"{found.refused:.0f} sessions refused": found.refused > 0,
        f"word errors {found.words.rate:.4f}, undisturbed {plain.words.rate:.4f}": abs(
            found.words.rate - plain.words.rate
        )
        > MOST_POINTS,
        f"commit P95 {found.commit_p95_s:.2f} s, undisturbed {plain.commit_p95_s:.2f} s": found.commit_p95_s
        > plain.commit_p95_s + MOST_P95_S,
        f"worst commit {found.commit_max_s:.2f} s": found.commit_max_s > max(MOST_COMMIT_S, plain.commit_max_s),
        f"engine away for {away_s:.1f} s": away_s > MOST_AWAY_S,
    }
    return [f"{kind}: {text}" for text, is_wrong in checks.items() if is_wrong]


def main() -> None:
    """Print the figures of each run as JSON, then what is wrong."""
    arguments = argument_parser(__doc__)
    arguments.add_argument("--streams", type=whole(), default=8)
    arguments.add_argument("--engines", type=whole(), default=2)
    arguments.add_argument("--gateways", type=whole(), default=1)
    arguments.add_argument("--places", type=whole(0), default=0, help="sessions at most; 0: twice as many as streams")
    arguments.add_argument("--where", choices=("processes", "ray"), default="processes", help="engines are there")
    arguments.add_argument("--seconds", type=number(0.1), default=60.0, help="least length of each stream")
    arguments.add_argument("--stopped", type=number(), default=20.0, help="seconds for which an engine stands still")
    arguments.add_argument(
        "--kinds", type=listed(one_of(MORE_KINDS)), default=",".join(KINDS), help="of runs, as in a,b"
    )
    arguments.add_argument("--json", type=results_file)
    args = arguments.parse_args()
    said = talks(args.manifest, args.streams, args.seconds)
    found = {kind: asyncio.run(run(kind, said, args)) for kind in args.kinds}
    print(json.dumps(figures := msgspec.to_builtins(found), indent=2))
    if args.json:
        args.json.write_text(json.dumps(figures, indent=1) + "\n")
    plain = next(iter(found.values()))
    problems = [text for kind, each in list(found.items())[1:] for text in wrong(kind, each, plain, args.stopped)]
    print("\n".join(problems))
    sys.exit(bool(problems))


if __name__ == "__main__":
    program(main)
