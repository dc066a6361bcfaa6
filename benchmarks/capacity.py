"""
Places that a daemon offers beside other work: at once after its start, and after the work is gone.

    python -m benchmarks.capacity [--model tiny.en] [--starts 20] [--load 0 1 2 4] [--work 20] [--rest 60] [--json OUT]

Each start is a daemon of its own, with an empty cache folder, or with `--remember` with one for all starts. Beside it
run as many busy loops as the load says. Printed for each start: places at once, just before the loops end, and after
the rest, and the difference of the last figure from the median of all starts without load so far.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from benchmarks.arguments import number, program, results_file, whole
from benchmarks.common import argument_parser
from benchmarks.served import daemon, free_port, metrics
from streamer.weights import default_store

BUSY = "while True: sum(range(10_000))"
HEAD = f"{'load':>4} {'at once':>8} {'beside work':>11} {'after rest':>10} {'differs':>8}"


class Start(msgspec.Struct, frozen=True, kw_only=True):
    """Places of one start."""

    load: int
    """Busy loops beside it."""
    at_once: int
    beside_work: int
    after_rest: int


def main() -> None:
    """Print the table."""
    arguments = argument_parser(__doc__, with_manifest=False)
    arguments.add_argument("--starts", type=whole(), default=20)
    arguments.add_argument(
        "--load", nargs="+", type=whole(0), default=[0, 1, 2, 4], help="busy loops, for one start after another"
    )
    arguments.add_argument("--work", type=number(), default=20.0, help="seconds until the loops end")
    arguments.add_argument("--rest", type=number(), default=60.0, help="seconds after that")
    arguments.add_argument(
        "--remember", action="store_true", help="one cache folder for all starts, the first without load"
    )
    arguments.add_argument("--json", type=results_file)
    chosen = arguments.parse_args()
    loads = [chosen.load[n % len(chosen.load)] for n in range(chosen.starts)]
    random.Random(0).shuffle(loads)
    found: list[Start] = []
    print(HEAD)
    with tempfile.TemporaryDirectory() as shared:
        for load in [0, *loads] if chosen.remember else loads:
            with tempfile.TemporaryDirectory() as own:
                folder = Path(shared if chosen.remember else own)
                found.append(asyncio.run(start(chosen.model, load, chosen.work, chosen.rest, folder)))
            print(line(found), flush=True)
    if chosen.json:
        chosen.json.write_text(json.dumps(msgspec.to_builtins(found), indent=1) + "\n", encoding="utf-8")


async def start(model: str, load: int, work_s: float, rest_s: float, cache: Path) -> Start:
    """
    One start and its places.

    Args:
        model: Name of the model.
        load: Busy loops beside the daemon.
        work_s: Seconds from its readiness until they end.
        rest_s: Seconds after that.
        cache: Folder of what is remembered.
    """
    port = free_port()
    with contextlib.ExitStack() as other_work:
        other_work.enter_context(busy(load))
        async with daemon(port, "--model", model, variables=with_cache(cache)):
            at_once = await places(port)
            await asyncio.sleep(work_s)
            beside_work = await places(port)
            other_work.close()
            await asyncio.sleep(rest_s)
            after_rest = await places(port)
    return Start(load=load, at_once=at_once, beside_work=beside_work, after_rest=after_rest)


@contextlib.contextmanager
def busy(n: int) -> Iterator[None]:
    """Run `n` processes that each keep a core busy, for the length of a block."""
    processes = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(n)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def with_cache(folder: Path) -> dict[str, str]:
    """Environment variables by which a daemon remembers in `folder`, and finds the models of this user."""
    models = folder / "whisper-streamer" / "models"
    models.parent.mkdir(parents=True, exist_ok=True)
    if not models.exists() and default_store().is_dir():
        models.symlink_to(default_store())
    hub = default_store().parent.parent / "huggingface" / "hub"
    return {"XDG_CACHE_HOME": str(folder), "HF_HUB_CACHE": str(hub)}


async def places(port: int) -> int:
    """Sessions that the daemon admits at most."""
    return int((await metrics(port))["streamer_capacity_sessions"])


def line(found: Sequence[Start]) -> str:
    """The row of the newest start."""
    newest = found[-1]
    idle = [each.after_rest for each in found if each.load == 0]
    differs = f"{newest.after_rest / statistics.median(idle) - 1:+.0%}" if idle else "-"
    cells = f"{newest.load:>4} {newest.at_once:>8} {newest.beside_work:>11} {newest.after_rest:>10}"
    return f"{cells} {differs:>8}"


if __name__ == "__main__":
    program(main)
