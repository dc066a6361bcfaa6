"""
A morning on a cluster whose number of engines follows the load: how many it has, and what is refused meanwhile.

    python -m benchmarks.scale.morning [--streams 10000] [--hours 4] [--engine h200]

The policy is the daemon's (`streamer.remote.scaling`). Streams are numbers here, not sessions: an engine takes as many
as its load meter admits, and the share of its time is what the meter's costs make of them.
"""

from __future__ import annotations

import argparse
import math

import msgspec

from benchmarks.arguments import number, program, whole
from benchmarks.scale.costs import ENGINES, EngineCosts
from benchmarks.scale.machines import LIMITS
from benchmarks.scale.speech import Manner
from streamer.remote.scaling import Scaling
from streamer.scheduling.load import LoadMeter

TICK_S = 1.0
FINALS = 1.33
"""Steps for each regular one: one in four is of a pause or the end of a turn."""


class Morning(msgspec.Struct, frozen=True, kw_only=True):
    """What it took."""

    most_engines: int
    engine_hours: float
    always_hours: float
    """Of a cluster that has the most engines all the time."""
    refused: float
    """Part of the streams that found no place."""
    late_s: float
    """Time in which some stream was refused."""


def streams_at(part: float, peak: int) -> float:
    """Streams of a morning of which this part is over: few at first, most of them come in its middle third."""
    return peak * (0.03 + 0.97 / (1.0 + math.exp(-12.0 * (part - 0.45))))


def share(n_streams: float, meter: LoadMeter, engine: EngineCosts) -> float:
    """Part of the time that an engine with so many streams is busy."""
    speaking = math.ceil(n_streams * Manner().voiced)
    if not speaking:
        return 0.0
    interval_s = meter.interval_s(speaking)
    rows = FINALS * speaking / interval_s
    steps = max(2 / interval_s, rows / meter.batch)
    return min(1.0, rows * engine.row_s + steps * engine.fixed_s)


def live(peak: int, seconds: float, engine: EngineCosts, least: int = 1) -> Morning:
    """
    Live through it.

    Args:
        peak: Streams at its end.
        seconds: Its length.
        engine: Its engines.
        least: Engines that there always are.
    """
    meter = LoadMeter(LIMITS, engine.most_rows, engine.step)
    policy, ready_at_s = Scaling(least, 10**6), [0.0] * least
    served = refused = busy_s = late_s = 0.0
    for n in range(round(seconds / TICK_S)):
        now_s = n * TICK_S
        wanted = streams_at(now_s / seconds, peak)
        n_ready = sum(at_s <= now_s for at_s in ready_at_s)
        taken = min(wanted, n_ready * meter.capacity)
        served, refused, late_s = served + taken, refused + wanted - taken, late_s + TICK_S * (taken < wanted)
        busy_s += len(ready_at_s) * TICK_S
        shares = [share(taken / n_ready, meter, engine)] * n_ready
        number = policy.wanted(len(ready_at_s), shares, now_s)
        ready_at_s = [*ready_at_s, now_s + engine.start_s] if number > len(ready_at_s) else ready_at_s[:number]
    most = len(ready_at_s)
    return Morning(
        most_engines=most,
        engine_hours=busy_s / 3600,
        always_hours=most * seconds / 3600,
        refused=refused / (served + refused),
        late_s=late_s,
    )


def main() -> None:
    """Print what a morning takes."""
    arguments = argparse.ArgumentParser(description=__doc__.strip().splitlines()[0])
    arguments.add_argument("--streams", type=whole(), default=10_000)
    arguments.add_argument("--hours", type=number(0.001), default=4.0)
    arguments.add_argument("--engine", choices=ENGINES, default="h200")
    arguments.add_argument(
        "--least", type=whole(0), default=0, help="engines that there always are; 0: a tenth of the most"
    )
    args = arguments.parse_args()
    engine = ENGINES[args.engine]
    capacity = LoadMeter(LIMITS, engine.most_rows, engine.step).capacity
    found = live(args.streams, args.hours * 3600, engine, args.least or math.ceil(args.streams / capacity / 10))
    print(
        f"{args.streams} streams in {args.hours:g} h: {found.most_engines} engines at the end, "
        f"{found.engine_hours:.0f} engine hours of {found.always_hours:.0f}, {found.refused:.2%} of the streams' time "
        f"refused, in {found.late_s:.0f} s"
    )


if __name__ == "__main__":
    program(main)
