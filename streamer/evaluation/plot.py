"""The plot of an evaluation: delay against accuracy, as SVG. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from streamer.errors import ConfigError
from streamer.evaluation.figures import DelayFigures, Figures
from streamer.evaluation.svg import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, circle, line, picture, text


@dataclass(frozen=True, slots=True, kw_only=True)
class _Point:
    """One `delay` setting in the plot."""

    name: str
    commit_p50_s: float
    commit_p95_s: float
    rate: float
    low: float
    """Lower end of the interval of `rate`."""
    high: float


def delay_plot(figures: Figures) -> str:
    """
    An SVG picture with a point for each `delay` setting that was measured.

    To the right the commit latency: a dot at the median, a line to the 95th percentile. Upwards the error rate with its
    interval; a line across the picture is the rate of recordings decoded at once.

    Raises:
        ConfigError: No setting has an error rate and a latency: there are no words.
    """
    points = [point for name, one in (figures.delays or {}).items() if (point := _point(name, one))]
    if not points:
        raise ConfigError("--plot: no word in these recordings, expected at least one with a reference")
    one_shot = figures.one_shot.wer if figures.one_shot else None
    right_s = 1.1 * max(p.commit_p95_s for p in points) or 1.0
    top = 1.1 * max([*(p.high for p in points), one_shot or 0.0]) or 0.01

    def x(seconds: float) -> float:
        return round(LEFT + (WIDTH - LEFT - RIGHT) * seconds / right_s, 1)

    def y(rate: float) -> float:
        return round(HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * rate / top, 1)

    title = f"{figures.model}: delay against accuracy"
    parts = [text(LEFT, 26, title, "start", 15), line(LEFT, y(0), WIDTH - RIGHT, y(0)), line(LEFT, y(0), LEFT, TOP)]
    for i in range(1, 6):
        parts.append(text(x(right_s * i / 5), y(0) + 18, f"{right_s * i / 5:.1f}"))
        parts.append(text(LEFT - 8, y(top * i / 5) + 4, f"{100 * top * i / 5:.1f}", "end"))
        parts.append(line(LEFT, y(top * i / 5), WIDTH - RIGHT, y(top * i / 5), "#ddd"))
    parts.append(text((LEFT + WIDTH) / 2, HEIGHT - 16, "seconds from the end of a word until it is stable"))
    parts.append(text(LEFT - 8, TOP - 8, "errors %", "end"))
    if one_shot is not None:
        parts.append(line(LEFT, y(one_shot), WIDTH - RIGHT, y(one_shot), "#c60"))
        parts.append(text(WIDTH - RIGHT, y(one_shot) - 5, "decoded at once", "end"))
    for p in points:
        parts.append(line(x(p.commit_p50_s), y(p.rate), x(p.commit_p95_s), y(p.rate), "#06c"))
        parts.append(line(x(p.commit_p50_s), y(p.low), x(p.commit_p50_s), y(p.high), "#06c"))
        parts.append(circle(x(p.commit_p50_s), y(p.rate), "#06c"))
        parts.append(text(x(p.commit_p50_s) + 8, y(p.rate) - 8, p.name, "start"))
    return picture(parts)


def _point(name: str, figures: DelayFigures) -> _Point | None:
    """None where there is no error rate or no latency. Without an interval the point stands for itself."""
    if figures.wer is None or figures.commit_latency_s is None:
        return None
    low, high = figures.wer_interval or (figures.wer, figures.wer)
    return _Point(
        name=name,
        commit_p50_s=figures.commit_latency_s.p50,
        commit_p95_s=figures.commit_latency_s.p95,
        rate=figures.wer,
        low=low,
        high=high,
    )
