"""Curves as SVG, by hand: delay against accuracy, and what other pictures need; no reason for a plotting library."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

WIDTH, HEIGHT = 640, 420
LEFT, RIGHT, TOP, BOTTOM = 70, 24, 48, 60


@dataclass(frozen=True, slots=True, kw_only=True)
class DelayPoint:
    """One `delay` setting as measured."""

    name: str
    commit_p50_s: float
    commit_p95_s: float
    rate: float
    low: float
    """Lower end of the interval of `rate`."""
    high: float


def delay_curve(title: str, points: Sequence[DelayPoint], one_shot: float | None = None) -> str:
    """
    The picture: commit delay to the right (dot: median, line to the right: 95th percentile), errors upwards.

    Args:
        title: Written above.
        points: At least one.
        one_shot: Error rate of whole recordings decoded at once, a line across.
    """
    right_s = 1.1 * max(p.commit_p95_s for p in points) or 1.0
    top = 1.1 * max([*(p.high for p in points), one_shot or 0.0]) or 0.01

    def x(seconds: float) -> float:
        return round(LEFT + (WIDTH - LEFT - RIGHT) * seconds / right_s, 1)

    def y(rate: float) -> float:
        return round(HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * rate / top, 1)

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
        parts.append(f'<circle cx="{x(p.commit_p50_s)}" cy="{y(p.rate)}" r="5" fill="#06c"/>')
        parts.append(text(x(p.commit_p50_s) + 8, y(p.rate) - 8, p.name, "start"))
    return picture(parts)


def picture(parts: Sequence[str], height: int = HEIGHT) -> str:
    """An SVG file of drawn parts, on white."""
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif">\n'
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>\n{body}\n</svg>\n'
    )


def line(x1: float, y1: float, x2: float, y2: float, colour: str = "#333") -> str:
    """A straight line."""
    return f'<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" stroke="{colour}"/>'


def text(x: float, y: float, words: str, anchor: str = "middle", size: int = 12) -> str:
    """Words at a place."""
    return f'<text x="{x}" y="{y}" font-size="{size}" text-anchor="{anchor}" fill="#222">{escape(words)}</text>'
