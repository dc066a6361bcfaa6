"""
Two commits side by side in one run: start, memory, places, delays, time of a token, processor time.

    python -m benchmarks.compare COMMIT_A COMMIT_B [--only start streams] [--model tiny.en] [--rounds 3] [--json OUT]

Each commit is checked out into a working tree of its own and runs in this environment. The rounds alternate between
both, so that other work on the machine and its clock disturb them alike. Each side has a cache folder of its own, and a
start before the first round, which measures what later ones remember. Printed are the medians of both, and the median
of the ratios of B to A, round by round: below 1 is less.

`start` is a daemon until it is ready and idle for `--idle` seconds; `streams` is `streamer bench --streams N`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.arguments import number, program, results_file, whole
from benchmarks.capacity import with_cache
from benchmarks.common import argument_parser
from benchmarks.served import daemon, free_port, metrics
from streamer.errors import ConfigError

KINDS = ("start", "streams")
MB = 2**20
HEAD = f"{'':28} {'A':>9} {'B':>9} {'B / A':>7}"

Figures = dict[str, float]


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two commits."""

    commit: str
    tree: Path
    """Where it is checked out."""
    cache: Path
    """Its cache folder, for the costs that it remembers."""

    @property
    def variables(self) -> dict[str, str]:
        """Of the environment of its programs."""
        return {"PYTHONPATH": str(self.tree), **with_cache(self.cache)}


def main() -> None:
    """Print the table."""
    chosen = _arguments().parse_args()
    kinds = chosen.only or KINDS
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        sides = [stack.enter_context(_checked_out(commit, Path(folder))) for commit in (chosen.a, chosen.b)]
        for side in sides:  # the first start of a machine measures it
            asyncio.run(_start(side, chosen.model, 0.0))
        rounds = [_round(sides if n % 2 == 0 else sides[::-1], kinds, chosen) for n in range(chosen.rounds)]
    of_a, of_b = ([found[commit] for found in rounds] for commit in (chosen.a, chosen.b))
    print(f"A {chosen.a}, B {chosen.b}, {chosen.model}, {chosen.rounds} rounds\n{HEAD}")
    for line in lines(of_a, of_b):
        print(line)
    if chosen.json:
        chosen.json.write_text(json.dumps({chosen.a: of_a, chosen.b: of_b}, indent=1) + "\n", encoding="utf-8")


def lines(of_a: Sequence[Figures], of_b: Sequence[Figures]) -> list[str]:
    """
    A line for each figure that both sides have in every round.

    Args:
        of_a: Figures of A, round by round.
        of_b: Those of B, of the same rounds.
    """
    names = [name for name in of_a[0] if all(name in figures for figures in (*of_a, *of_b))]
    return [_line(name, [f[name] for f in of_a], [f[name] for f in of_b]) for name in names]


def _line(name: str, a: Sequence[float], b: Sequence[float]) -> str:
    ratios = [second / first for first, second in zip(a, b, strict=True) if first]
    ratio = f"{statistics.median(ratios):7.2f}" if ratios else f"{'-':>7}"
    return f"{name:28} {statistics.median(a):9.3f} {statistics.median(b):9.3f} {ratio}"


def _arguments() -> argparse.ArgumentParser:
    arguments = argument_parser(__doc__, with_manifest=False)
    arguments.add_argument("a", metavar="COMMIT_A")
    arguments.add_argument("b", metavar="COMMIT_B")
    arguments.add_argument("--only", nargs="+", choices=KINDS, help="leave out the rest")
    arguments.add_argument("--rounds", type=whole(), default=3)
    arguments.add_argument("--idle", type=number(), default=5.0, help="seconds from ready to the look at memory")
    arguments.add_argument("--streams", type=whole(), default=4, help="live streams of a run")
    arguments.add_argument("--seconds", type=number(0.1), default=30.0, help="length of each stream")
    arguments.add_argument("--json", type=results_file, help="keep every figure of every round")
    return arguments


@contextlib.contextmanager
def _checked_out(commit: str, folder: Path) -> Iterator[Side]:
    """A commit in a working tree of its own, for the length of a block."""
    tree = Path(tempfile.mkdtemp(dir=folder)) / "tree"
    _git("worktree", "add", "--quiet", "--detach", str(tree), commit)
    try:
        yield Side(commit, tree, tree.parent / "cache")
    finally:
        _git("worktree", "remove", "--force", str(tree))


def _git(*arguments: str) -> None:
    here = Path(__file__).parent
    done = subprocess.run(["git", *arguments], check=False, cwd=here, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        raise ConfigError(f"git {' '.join(arguments[:2])}: {done.stderr.strip()}; expected commits of this repository")


def _round(sides: Sequence[Side], kinds: Sequence[str], chosen: argparse.Namespace) -> dict[str, Figures]:
    found: dict[str, Figures] = {side.commit: {} for side in sides}
    for side in sides:
        if "start" in kinds:
            found[side.commit] |= asyncio.run(_start(side, chosen.model, chosen.idle))
    for side in sides:
        if "streams" in kinds:
            found[side.commit] |= _bench(side, chosen.model, chosen.streams, chosen.seconds)
    return found


async def _start(side: Side, model: str, idle_s: float) -> Figures:
    """A daemon from its start to ready, and its memory when it has been idle for a while."""
    port, began_s = free_port(), time.monotonic()
    async with daemon(port, "--model", model, variables=side.variables, cwd=side.tree) as process:
        ready_s = time.monotonic() - began_s
        cpu = process.cpu_times()
        await asyncio.sleep(idle_s)
        processes = [process, *process.children(recursive=True)]
        memory = [each.memory_full_info() for each in processes]
        places = (await metrics(port)).get("streamer_capacity_sessions", 0.0)
    return {
        "start, s": ready_s,
        "start, processor s": cpu.user + cpu.system,
        "idle memory, PSS, MB": sum(each.pss for each in memory) / MB,
        "idle memory, private, MB": sum(each.uss for each in memory) / MB,
        "places": places,
    }


def _bench(side: Side, model: str, n: int, seconds: float) -> Figures:
    """`streamer bench` with some live streams."""
    out = side.cache / "bench.json"
    out.unlink(missing_ok=True)  # where this run fails, the figures of the round before are not its own
    options = ("--model", model, "--streams", str(n), "--seconds", str(seconds), "--json", str(out))
    subprocess.run(  # its exit code says whether so many are carried
        [sys.executable, "-m", "streamer", "bench", *options],
        check=False,
        cwd=side.tree,
        env={**os.environ, **side.variables},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    return figures_of(json.loads(out.read_text(encoding="utf-8"))["results"][0])


def figures_of(result: Mapping[str, Any]) -> Figures:
    """
    The figures of one run of `streamer bench`, of those that its commit knows.

    Args:
        result: Of one number of streams, as `--json` writes it.
    """
    wanted = {
        "commit, P50, s": ("commit_latency_s", "p50"),
        "commit, P95, s": ("commit_latency_s", "p95"),
        "first partial, P95, s": ("first_partial_latency_s", "p95"),
        "token, P95, ms": ("decoder_token_ms", "p95"),
        "processor s / audio s": ("cpu_s_per_audio_s", None),
        "peak memory, MB": ("peak_rss_mb", None),
        "word errors": ("word_error_rate", None),
    }
    found = {name: result.get(key) for name, (key, _) in wanted.items()}
    parts = {name: value.get(wanted[name][1]) if isinstance(value, dict) else value for name, value in found.items()}
    return {name: float(value) for name, value in parts.items() if value is not None}


if __name__ == "__main__":
    program(main)
