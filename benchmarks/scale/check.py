"""
The simulator against a daemon: the same streams, engines and costs, in real time and on the simulated clock.

    python -m benchmarks.scale.check MANIFEST [--streams 32] [--engines 2] [--seconds 40] [--costs h200] [--json OUT]

Speech of the manifest goes to a daemon with engine processes. What its steps cost there, other work on the machine
included, is what they cost in the simulation. With `--costs` the engines have no network: their steps last as long as
those of an engine of `benchmarks.scale.costs`, so that a small machine carries as many streams as that engine. Printed
for each figure: measured, simulated, and their ratio.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os

import msgspec
import psutil

from benchmarks.arguments import number, program, results_file, whole
from benchmarks.common import argument_parser, read_recordings, some
from benchmarks.cuts import talks
from benchmarks.lost_engines import speak
from benchmarks.scale.cell import Plan, simulate
from benchmarks.scale.costs import ENGINES, EngineCosts
from benchmarks.scale.speech import Manner
from benchmarks.served import daemon, free_port, metrics
from streamer.audio.pcm import SAMPLE_RATE
from streamer.evaluation.manifest import read_manifest
from streamer.evaluation.percentiles import percentile
from streamer.gateway import N_PLACES

PAUSE_S = 1.2
"""Between two sentences: the silence that the talks have there, and what the recordings end and begin with."""
FIXED = 0.5
"""Cost of a step without its rows, in rows: tiny.en on one core."""

N_MELS = 80
"""Mel bands of the model whose windows are sent."""


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """What is compared."""

    rows_per_step: float
    calls_per_s: float
    steps_per_stream_s: float
    kb_per_audio_s: float
    commit_p50_s: float
    commit_p95_s: float


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """A run of the daemon, and what its steps have cost."""

    found: Found
    step_s: float
    """Mean."""
    gateway_ms_per_audio_s: float
    load: float
    """Of the machine at the end, of the last minute."""


async def measure(args: argparse.Namespace) -> Measured:
    """Speak to a daemon."""
    said, port = talks(args.manifest, args.streams, args.seconds), free_port()
    variables = {
        "FREE_ENGINE_COSTS": args.costs,
        "STREAMER_ENGINES_COUNT": str(args.engines),
        "STREAMER_ENGINES_WHERE": "processes",
        "STREAMER_SCHEDULER_MAX_SESSIONS": str(2 * len(said)),
    }
    module = "benchmarks.free_engine" if args.costs else "streamer"
    async with daemon(port, "--model", args.model, module=module, variables=variables) as process:
        before, cpu = await metrics(port), process.cpu_times()
        heard = await asyncio.gather(*(speak(talk, port) for talk in said))
        after, spent = await metrics(port), processor_s(process.cpu_times()) - processor_s(cpu)
    if errors := [each.error for each in heard if each.error]:
        raise SystemExit(f"{len(errors)} streams met an error: {errors[0]}")
    counted = {name: value - before.get(name, 0.0) for name, value in after.items()}
    audio_s, calls = counted["streamer_audio_seconds_total"], counted["streamer_step_latency_ms_count"]
    rows, commit_s = counted["streamer_step_batch_sum"], [each for one in heard for each in one.commit_s]
    return Measured(
        found=Found(
            rows_per_step=rows / calls,
            calls_per_s=calls / (audio_s / len(said)),
            steps_per_stream_s=rows / audio_s,
            kb_per_audio_s=counted["streamer_engine_sent_bytes_total"] / audio_s / 1e3,
            commit_p50_s=percentile(commit_s, 50),
            commit_p95_s=percentile(commit_s, 95),
        ),
        step_s=counted["streamer_step_latency_ms_sum"] / calls / 1e3,
        gateway_ms_per_audio_s=1e3 * spent / audio_s,
        load=os.getloadavg()[0],
    )


def processor_s(times: psutil._common.pcputimes) -> float:
    """Of a process, without its children."""
    return float(times.user + times.system)


def engine_of(costs: str, measured: Measured) -> EngineCosts:
    """The engine that the daemon had, as it was measured or as its costs say."""
    if costs:
        return msgspec.structs.replace(ENGINES[costs], cold_rows=1.0, spread=0.0, n_mels=N_MELS)
    row_s = measured.step_s / (measured.found.rows_per_step + FIXED)
    return msgspec.structs.replace(ENGINES["cpu"], fixed_s=FIXED * row_s, row_s=row_s, cold_rows=1.0)


def simulated(args: argparse.Namespace, measured: Measured) -> Found:
    """The same on the simulated clock."""
    found = [row for row in read_manifest(args.manifest) if row.language == "en" and row.kind == "short"]
    rows = some(found, args.manifest, "of English with kind short")
    clips = read_recordings(args.manifest, rows)
    plan = Plan(
        n_streams=args.streams,
        n_gateways=1,
        n_engines=args.engines,
        engine=engine_of(args.costs, measured),
        manner=Manner(talk_s=sum(map(len, clips)) / len(clips) / SAMPLE_RATE, pause_s=PAUSE_S),
        n_places=N_PLACES[ENGINES[args.costs or "cpu"].device],
        seconds=args.seconds,
    )
    figures = msgspec.to_builtins(simulate(plan))
    return msgspec.convert({name: figures[name] for name in Found.__struct_fields__}, Found)


def main() -> None:
    """Print the comparison."""
    arguments = argument_parser(__doc__)
    arguments.add_argument("--streams", type=whole(), default=32)
    arguments.add_argument("--engines", type=whole(), default=2)
    arguments.add_argument("--seconds", type=number(0.1), default=40.0)
    arguments.add_argument("--costs", choices=ENGINES, default="", help="of engines without a network")
    arguments.add_argument("--json", type=results_file)
    args = arguments.parse_args()
    measured = asyncio.run(measure(args))
    found = simulated(args, measured)
    print(f"load {measured.load:.1f}, gateway {measured.gateway_ms_per_audio_s:.1f} ms for a second of audio")
    for name in Found.__struct_fields__:
        here, there = getattr(measured.found, name), getattr(found, name)
        print(f"{name:20s} measured {here:8.2f}  simulated {there:8.2f}  ratio {there / here:5.2f}")
    if args.json:
        args.json.write_text(json.dumps(msgspec.to_builtins([measured, found]), indent=1) + "\n")


if __name__ == "__main__":
    program(main)
