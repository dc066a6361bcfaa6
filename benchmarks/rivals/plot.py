"""The delay of each system against the number of streams, as a picture. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise

from benchmarks.rivals.figures import DELAY_BOUND_S, Figures, is_sustained
from streamer.evaluation.svg import HEIGHT, LEFT, RIGHT, TOP, WIDTH, line, picture, text

COLOURS = ("#06c", "#c30", "#e80", "#293", "#8a2", "#93c", "#c6a", "#666", "#630", "#099")
LEGEND = 20
"""Height of a line of the legend below the plot."""
LOW_S, HIGH_S = 0.5, 32.0
"""Delays beyond are drawn at the edge."""


def plot(title: str, runs: Mapping[str, Sequence[Figures]]) -> str:
    """P95 from the end of an utterance to its final text against the streams, both doubling; as SVG."""
    ordered = [run for one in runs.values() for run in one]
    counts = sorted({run.n_streams for run in ordered})
    octaves, bottom = max(1.0, math.log2(counts[-1] / counts[0])), HEIGHT - 60

    def x(n: float) -> float:
        return round(LEFT + 10 + (WIDTH - LEFT - RIGHT - 20) * math.log2(n / counts[0]) / octaves, 1)

    def y(seconds: float) -> float:
        part = math.log2(min(max(seconds, LOW_S), HIGH_S) / LOW_S) / math.log2(HIGH_S / LOW_S)
        return round(bottom - (bottom - TOP) * part, 1)

    parts = [
        text(LEFT, 26, title, "start", 15),
        line(LEFT, bottom, WIDTH - RIGHT, bottom),
        line(LEFT, bottom, LEFT, TOP),
    ]
    for seconds in (0.5, 1, 2, 4, 8, 16, 32):
        parts.append(line(LEFT, y(seconds), WIDTH - RIGHT, y(seconds), "#c60" if seconds == DELAY_BOUND_S else "#ddd"))
        parts.append(text(LEFT - 8, y(seconds) + 4, f"{seconds:g} s", "end"))
    parts += [text(x(n), bottom + 18, f"{n}") for n in counts]
    parts.append(text((LEFT + WIDTH) / 2, bottom + 40, "live streams; filled: sustained; up: P95 to the final text"))
    for i, (system, one) in enumerate(runs.items()):
        colour, legend_y = COLOURS[i % len(COLOURS)], HEIGHT + LEGEND * i
        points = [(x(run.n_streams), y(run.final_s.p95), is_sustained(run, one[0])) for run in one if run.final_s]
        parts += [line(*a[:2], *b[:2], colour) for a, b in pairwise(points)]
        parts += [_dot(*point, colour) for point in [*points, (LEFT, legend_y - 4, True)]]
        parts.append(text(LEFT + 12, legend_y, system, "start"))
    return picture(parts, HEIGHT + LEGEND * len(runs))


def _dot(x: float, y: float, is_filled: bool, colour: str) -> str:
    return f'<circle cx="{x}" cy="{y}" r="4.5" stroke="{colour}" fill="{colour if is_filled else "white"}"/>'
