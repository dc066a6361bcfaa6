"""
Attacks a daemon on loopback, each attack beside an honest stream with a key of its own.

    python -m benchmarks.hostile MANIFEST [--only NAME ...] [--seconds 8] [--settle 60] [--tries 3]
    python -m benchmarks.hostile MANIFEST --busy --scripted
    python -m benchmarks.hostile MANIFEST --crowd 3000 [--files 1024]

For each attack is printed: how late the captions of the honest stream came (P95) and how late alone just before, how
long the event loop was held by its own work, waited in its work, and was not run by the machine (upper edges of
buckets of `streamer_loop_…_seconds`), how much more memory the daemon took than beside that stream alone, and kept once
it fell or after `--settle` seconds, places that were not given back, bytes and tracebacks in its log. An attack that
breaks a bound is repeated, for others use the machine too: the last of at most `--tries` counts, and a column says how
many there were. Nothing but this machine is attacked.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
from numpy.typing import NDArray

from benchmarks import served
from benchmarks.arguments import number, program, whole
from benchmarks.common import argument_parser, pcm16, read_recordings, some
from benchmarks.hostile.attack import Attack
from benchmarks.hostile.attacks import ATTACKS
from benchmarks.hostile.honest import HONEST, State, honest, longest, most_memory, state
from benchmarks.hostile.requests import KEY
from benchmarks.hostile.visitors import in_a_crowd
from streamer.evaluation.manifest import read_manifest
from streamer.evaluation.percentiles import percentile
from tests.helpers.scripted_engine import spoken, story

LATER_S, MEMORY_MB, LOG_BYTES = 0.5, 100.0, 1_000_000
"""Bounds of an attack: how much later captions may come, memory and log beyond what there was."""
COLUMNS = (
    "attack",
    "alone s",
    "captions s",
    "held s",
    "waited s",
    "starved s",
    "memory MB",
    "kept MB",
    "places",
    "log",
    "tracebacks",
    "tries",
    "holds",
)
LOOK_S = 3.0
"""Between two looks at a daemon that settles, seconds."""


@dataclass(frozen=True, slots=True)
class Heard:
    """An honest stream."""

    late_s: float
    """P95 of its captions, seconds; infinity: it was cut."""
    most_mb: float
    """Memory of the daemon meanwhile."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an attack did."""

    alone: Heard
    heard: Heard
    before: State
    after: State

    def holds(self, *, on_busy_machine: bool) -> bool:
        """Whether every bound was kept."""
        is_in_time = (
            self.heard.late_s <= self.alone.late_s + LATER_S and longest(self.before, self.after, "waited") == "< 0.05"
        )
        return (
            (is_in_time or on_busy_machine)
            and longest(self.before, self.after, "held") == "< 0.05"
            and self.took_mb <= MEMORY_MB
            and self.kept_mb <= MEMORY_MB / 2
            and self.after.n_sessions <= self.before.n_sessions
            and self.after.n_log_bytes - self.before.n_log_bytes <= LOG_BYTES
            and self.after.n_tracebacks == self.before.n_tracebacks
        )

    @property
    def took_mb(self) -> float:
        """
        Memory beyond that of the honest stream alone, and beyond what there was just before.

        A daemon that was idle takes some for that stream too, and for measuring itself while nobody speaks.
        """
        return self.heard.most_mb - max(self.alone.most_mb, self.before.memory_mb)

    @property
    def kept_mb(self) -> float:
        """Memory that was not given back."""
        return self.after.memory_mb - self.alone.most_mb

    def cells(self) -> list[str]:
        """Of a row of the table."""
        before, after = self.before, self.after
        return [
            f"{self.alone.late_s:.2f}",
            f"{self.heard.late_s:.2f}",
            *(longest(before, after, cause) for cause in ("held", "waited", "starved")),
            f"{self.took_mb:.0f}",
            f"{self.kept_mb:.0f}",
            f"{after.n_sessions - before.n_sessions:.0f}",
            f"{after.n_log_bytes - before.n_log_bytes:,}",
            f"{after.n_tracebacks - before.n_tracebacks}",
        ]


async def attacked(
    attack: Attack, port: int, process: psutil.Process, pcm: NDArray[np.int16], settle_s: float, alone: Heard
) -> Outcome:
    """Run one attack beside an honest stream, in a process of its own."""
    before = await state(port, process)
    seconds = str(len(pcm) / 16_000)
    # of its own, without the libraries of this one: loading them would be the attack
    command = ("-m", "benchmarks.hostile.attacks", attack.name, str(port), seconds)
    attacker = await asyncio.create_subprocess_exec(sys.executable, *command)
    heard = await _heard(port, process, pcm, attacker)
    return Outcome(alone, heard, before, await _settled(port, process, alone.most_mb, before.n_sessions, settle_s))


async def _heard(
    port: int, process: psutil.Process, pcm: NDArray[np.int16], attacker: asyncio.subprocess.Process | None = None
) -> Heard:
    """Play an honest stream, beside an attack to the end of that."""
    watching = asyncio.create_task(most_memory(process))
    late_s = await honest(port, pcm)
    if attacker is not None:
        await attacker.wait()
    watching.cancel()
    return Heard(percentile(late_s, 95) if late_s else float("inf"), await watching)


async def _settled(port: int, process: psutil.Process, most_mb: float, n_sessions: float, settle_s: float) -> State:
    """The state of a daemon once it has given back what it took, or after so many seconds."""
    end_s = time.monotonic() + settle_s
    while True:
        await asyncio.sleep(LOOK_S)
        after = await state(port, process)
        is_back = after.memory_mb - most_mb < MEMORY_MB / 5 and after.n_sessions <= n_sessions
        if is_back or time.monotonic() > end_s:
            return after


async def attack_all(
    attacks: Sequence[Attack],
    pcm: NDArray[np.int16],
    port: int,
    process: psutil.Process,
    settle_s: float,
    n_tries: int,
    *,
    is_busy: bool,
) -> None:
    """Print a row for each attack."""
    print(
        "| attack | alone s | captions s | held s | waited s | starved s | memory MB | kept MB | places | log | ",
        end="",
    )
    print("tracebacks | tries | holds |\n|---|---|---|---|---|---|---|---|---|---|---|---|---|")
    n_holding = 0
    for attack in attacks:
        alone = await _heard(port, process, pcm)
        outcomes = [await attacked(attack, port, process, pcm, settle_s, alone)]
        while not (does_hold := outcomes[-1].holds(on_busy_machine=is_busy)) and len(outcomes) < n_tries:
            outcomes.append(await attacked(attack, port, process, pcm, settle_s, alone))
        n_holding += does_hold
        cells = [attack.name, *outcomes[-1].cells(), str(len(outcomes)), "yes" if does_hold else "**no**"]
        print(f"| {' | '.join(cells)} |", flush=True)
    print(f"\n{n_holding} of {len(attacks)} hold")


def main() -> None:
    """Run the attacks."""
    parser = argument_parser(__doc__ or "")
    parser.add_argument("--only", nargs="+", default=[""], help="the beginnings of the names of attacks")
    parser.add_argument("--seconds", type=number(0.1), default=8.0, help="of each attack")
    parser.add_argument("--settle", type=number(), default=60.0, help="seconds in which memory and places come back")
    parser.add_argument("--tries", type=whole(), default=3, help="of an attack that breaks a bound")
    parser.add_argument("--busy", action="store_true", help="others use the machine: judge no lateness, no waiting")
    parser.add_argument(
        "--scripted", action="store_true", help="an engine that computes nothing: what is late is late by the attack"
    )
    parser.add_argument(
        "--crowd", type=whole(0), default=0, help="connections of strangers and a key, instead of attacks"
    )
    parser.add_argument("--files", type=whole(0), default=0, help="open files that the daemon is allowed")
    args = parser.parse_args()
    attacks = [attack for attack in ATTACKS if attack.name.startswith(tuple(args.only))]
    if not attacks:
        parser.error(f"--only {' '.join(args.only)}: expected some of {', '.join(attack.name for attack in ATTACKS)}")
    rows = some([row for row in read_manifest(args.manifest) if row.language == "en"], args.manifest, "of English")
    sound = spoken(story(100)) if args.scripted else np.concatenate(read_recordings(args.manifest, rows))
    pcm = pcm16(np.resize(sound, int(args.seconds * 16_000)))

    async def run() -> None:
        keys = Path(tempfile.mkdtemp()) / "keys"
        keys.write_text(f"honest {HONEST}\nhostile {KEY}\n")
        variables = {
            "STREAMER_SERVER_KEYS_FILE": str(keys),
            "STREAMER_SERVER_RESUME_S": "1",
            "STREAMER_SERVER_ROOMS": "true",
        }
        port = served.free_port()
        module = "tests.helpers.scripted_daemon" if args.scripted else "streamer"
        if args.scripted:
            variables["STREAMER_SCHEDULER_MAX_SESSIONS"] = "24"
        options = ("--model", args.model)
        started = served.daemon(port, *options, variables=variables, module=module, n_files=args.files)
        async with started as process:
            await honest(port, pcm)  # the first stream of a daemon warms it up
            if args.crowd:
                await in_a_crowd(args.crowd, port, process, pcm)
            else:
                await attack_all(attacks, pcm, port, process, args.settle, args.tries, is_busy=args.busy)

    asyncio.run(run())


if __name__ == "__main__":
    program(main)
