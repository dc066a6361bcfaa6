"""
What thousands of streams need: engines, gateways, bytes and delays, and what is felt where one of them is lost.

    python -m benchmarks.scale [--streams 1000,10000,100000] [--engine h200] [--seconds 10] [--full 1000] [--json OUT]

Streams are served by cells of a few engines and the gateways that use them. Cells share nothing. Up to `--full` streams
every cell is simulated; beyond, one cell of each kind is, and stands for all of them. The table of a size says which of
the two it is. The first row of a size is undisturbed; then an engine, and a gateway, of one cell is lost.
"""

from __future__ import annotations

import argparse
import json
import math

import msgspec

from benchmarks.arguments import listed, number, program, results_file, whole
from benchmarks.scale.cell import Figures, Plan, simulate
from benchmarks.scale.costs import ENGINES, EngineCosts
from benchmarks.scale.machines import LIMITS
from streamer.scheduling.load import LoadMeter

ENGINE_SHARE = 0.85
"""Streams of an engine, as a part of its places: one of seven may be lost."""
GATEWAY_SHARE = 0.7
"""Part of a core that a gateway process is planned to take."""
GATEWAY_MS = 8.0
"""Processor time of a gateway for a second of audio."""
ENGINES_OF_CELL = 2
UPLINK_KB = 32.0
"""Sound of a client, kB for each second."""


class Limit(msgspec.Struct, frozen=True, kw_only=True):
    """What one of something carries."""

    name: str
    carries: float
    reason: str


LIMITS_OF = {
    "engines": Limit(name="device time of an engine", carries=1.0, reason="its clock"),
    "gateways": Limit(name="processor of a gateway process", carries=1.0, reason="one interpreter, one core"),
    "engine network": Limit(name="network of a machine with 8 engines", carries=1.25e6, reason="10 Gbit/s, in kB/s"),
    "core network": Limit(name="network between gateways and engines", carries=12.5e6, reason="100 Gbit/s, in kB/s"),
    "members": Limit(
        name="engines and gateway machines under one control plane",
        carries=300.0,
        reason="an estimate: 30 to 300 is what its operators report of one head",
    ),
}


class Size(msgspec.Struct, frozen=True, kw_only=True):
    """What one size needs, and what is felt."""

    n_streams: int
    is_full: bool
    engines: int
    gateways: int
    gigabytes_per_s: float
    undisturbed: tuple[Figures, ...]
    engine_lost: Figures | None = None
    gateway_lost: Figures | None = None
    used: dict[str, float]
    """Part of what each limit carries."""

    @property
    def bottleneck(self) -> str:
        """The limit that is nearest."""
        return LIMITS_OF[max(self.used, key=lambda key: self.used[key])].name


def planned(n_streams: int, engine: EngineCosts, seconds: float) -> list[Plan]:
    """The cells of a size: as equal as they can be."""
    places = LoadMeter(LIMITS, engine.most_rows, engine.step).capacity * ENGINE_SHARE
    n_engines = math.ceil(n_streams / places)
    n_cells = math.ceil(n_engines / ENGINES_OF_CELL)
    shares = [n_streams // n_cells + (i < n_streams % n_cells) for i in range(n_cells)]
    return [
        Plan(
            n_streams=share,
            n_gateways=max(2, math.ceil(share * GATEWAY_MS / 1e3 / GATEWAY_SHARE)),
            n_engines=max(1, math.ceil(share / places)),
            engine=engine,
            seconds=seconds,
            seed=i,
        )
        for i, share in enumerate(shares)
    ]


def size(n_streams: int, engine: EngineCosts, seconds: float, *, is_full: bool, with_losses: bool) -> Size:
    """Simulate one size."""
    plans = planned(n_streams, engine, seconds)
    undisturbed = tuple(simulate(plan) for plan in (plans if is_full else plans[:1]))
    lost = {kind: msgspec.structs.replace(plans[0], lost=kind, seconds=2 * seconds) for kind in ("engine", "gateway")}
    n_engines, n_gateways = sum(plan.n_engines for plan in plans), sum(plan.n_gateways for plan in plans)
    kb = sum(each.kb_per_audio_s * each.n_streams for each in undisturbed) / sum(each.n_streams for each in undisturbed)
    used = {
        "engines": max(each.device for each in undisturbed),
        "gateways": max(each.gateway for each in undisturbed),
        "engine network": 8 * kb * n_streams / n_engines,
        "core network": kb * n_streams,
        "members": n_engines + n_gateways / 16,
    }
    return Size(
        n_streams=n_streams,
        is_full=is_full,
        engines=n_engines,
        gateways=n_gateways,
        gigabytes_per_s=n_streams * (kb + UPLINK_KB) / 1e6,
        undisturbed=undisturbed,
        engine_lost=simulate(lost["engine"]) if with_losses else None,
        gateway_lost=simulate(lost["gateway"]) if with_losses else None,
        used={key: value / LIMITS_OF[key].carries for key, value in used.items()},
    )


def lines(found: Size) -> list[str]:
    """One size."""
    used = ", ".join(f"{LIMITS_OF[key].name} {value:.0%}" for key, value in found.used.items())
    how = "all cells" if found.is_full else "one cell of all, which are alike"
    rows = [(f"undisturbed, cell {n}", each) for n, each in enumerate(found.undisturbed)]
    losses = [("engine lost", found.engine_lost), ("gateway lost", found.gateway_lost)]
    rows += [(name, each) for name, each in losses if each]
    return [
        f"{found.n_streams} streams ({how}): {found.engines} engines, {found.gateways} gateway processes, "
        f"{found.gigabytes_per_s:.2f} GB/s",
        f"  nearest limit: {found.bottleneck} ({used})",
        "  run                      streams  words P50 / P95 / max s    step P50 / P95 ms  rows/step rows/call  device "
        "gateway ms  kB",
        *(f"  {name:24s} {cells(each)}" for name, each in rows),
    ]


def cells(each: Figures) -> str:
    """One run."""
    return (
        f"{each.n_streams:7d}  {each.commit_p50_s:5.2f} / {each.commit_p95_s:5.2f} / {each.commit_max_s:5.2f}  "
        f"{1e3 * each.step_p50_s:7.0f} / {1e3 * each.step_p95_s:4.0f}  {each.rows_per_step:13.1f} "
        f"{each.rows_per_call:9.1f}  {each.device:6.2f} {each.gateway_ms_per_audio_s:10.1f}  {each.kb_per_audio_s:.0f}"
    )


def main() -> None:
    """Print the table."""
    arguments = argparse.ArgumentParser(description=__doc__.strip().splitlines()[0])
    arguments.add_argument("--streams", type=listed(whole()), default="1000,10000,100000")
    arguments.add_argument("--engine", choices=ENGINES, default="h200")
    arguments.add_argument("--seconds", type=number(0.1), default=10.0)
    arguments.add_argument("--full", type=whole(0), default=1000, help="streams up to which every cell is simulated")
    arguments.add_argument("--no-losses", action="store_true")
    arguments.add_argument("--json", type=results_file)
    args = arguments.parse_args()
    sizes = []
    for n in args.streams:
        found = size(n, ENGINES[args.engine], args.seconds, is_full=n <= args.full, with_losses=not args.no_losses)
        sizes.append(found)
        print("\n".join(lines(found)), flush=True)
        if args.json:
            args.json.write_text(json.dumps(msgspec.to_builtins(sizes), indent=1) + "\n")


if __name__ == "__main__":
    program(main)
