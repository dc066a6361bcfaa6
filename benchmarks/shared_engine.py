"""
Rows a step of one engine that one gateway uses, and that two use with as many streams in all.

    python -m benchmarks.shared_engine MANIFEST [--streams 16,32] [--gateways 1,2] [--seconds 20] [--costs h200]

An engine that merges the calls of its gateways into one step loses little where there are several. Its steps last as
long as those of an engine of `benchmarks.scale.costs`, without any processor time; sockets, sessions, front end and
messages are the daemon's. Exit code 1 where several gateways have less than 0.8 of the rows a step of the first number.
"""

from __future__ import annotations

import asyncio
import sys

import numpy as np
from numpy.typing import NDArray

from benchmarks.arguments import listed, number, program, whole
from benchmarks.common import argument_parser, pcm16, read_recordings, some
from benchmarks.host_path import WARM_UP_S, speak
from benchmarks.scale.costs import ENGINES
from benchmarks.served import daemon, free_port, metrics
from streamer.evaluation.manifest import read_manifest

LEAST = 0.8
"""Rows a step of several gateways, as a part of those of the first number."""


async def counted(port: int) -> tuple[float, float]:
    """Rows and steps of the engine since its start, as all gateways of a daemon tell."""
    found = await metrics(port)
    return found["streamer_decoder_rows_total"], found["streamer_decoder_passes_total"]


async def rows_per_step(n: int, n_gateways: int, pcm: NDArray[np.int16], seconds: float, costs: str) -> float:
    """
    Speak to a daemon, and count.

    Args:
        n: Streams.
        n_gateways: Gateways.
        pcm: Speech, (n_samples,), mono at 16 kHz; each stream has its own part of it.
        seconds: Time that is counted.
        costs: Of the engine.
    """
    port = free_port()
    variables = {
        "FREE_ENGINE_COSTS": costs,
        "STREAMER_ENGINES_COUNT": "1",
        "STREAMER_ENGINES_WHERE": "processes",
        "STREAMER_SCHEDULER_MAX_SESSIONS": str(n),
        "STREAMER_SERVER_PROCESSES": str(n_gateways),
    }
    async with daemon(port, "--model", "tiny.en", module="benchmarks.free_engine", variables=variables):
        parts = [np.roll(pcm, -i * len(pcm) // n) for i in range(n)]
        speakers = [asyncio.create_task(speak(port, part, WARM_UP_S + seconds)) for part in parts]
        await asyncio.sleep(WARM_UP_S)
        before = await counted(port)
        await asyncio.sleep(seconds - 1)
        after = await counted(port)
        await asyncio.gather(*speakers)
    return (after[0] - before[0]) / (after[1] - before[1])


def main() -> None:
    """Print the rows a step for each number of streams and gateways."""
    arguments = argument_parser(__doc__)
    arguments.add_argument("--streams", type=listed(whole()), default="16,32")
    arguments.add_argument("--gateways", type=listed(whole()), default="1,2")
    arguments.add_argument("--seconds", type=number(0.1), default=20.0)
    arguments.add_argument("--costs", choices=ENGINES, default="h200")
    args = arguments.parse_args()
    rows = some([r for r in read_manifest(args.manifest) if r.kind == "short"], args.manifest, "with kind short")
    pcm = pcm16(np.concatenate(read_recordings(args.manifest, rows)))
    shares = []
    print("streams  gateways  rows a step  of the first number's")
    for n in args.streams:
        first = 0.0
        for n_gateways in args.gateways:
            found = asyncio.run(rows_per_step(n, n_gateways, pcm, args.seconds, args.costs))
            first = first or found
            shares.append(found / first)
            print(f"{n:7d}  {n_gateways:8d}  {found:11.2f}  {shares[-1]:21.2f}", flush=True)
    sys.exit(min(shares) < LEAST)


if __name__ == "__main__":
    program(main)
