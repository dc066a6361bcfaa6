"""Parts of SVG pictures as text: lines, words and dots, so that plots need no plotting library. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from xml.sax.saxutils import escape

WIDTH, HEIGHT = 640, 420
"""Of a picture, in its own units."""
LEFT, RIGHT, TOP, BOTTOM = 70, 24, 48, 60
"""Margins around the area of a plot."""


def picture(parts: Sequence[str], height: int = HEIGHT) -> str:
    """A whole SVG file with a white background; later parts lie on top of earlier ones."""
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif">\n'
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>\n{body}\n</svg>\n'
    )


def line(x1: float, y1: float, x2: float, y2: float, colour: str = "#333") -> str:
    """
    A straight line.

    Args:
        x1: Where it starts, from the left.
        y1: Where it starts, from above.
        x2: Where it ends, from the left.
        y2: Where it ends, from above.
        colour: As CSS has it.
    """
    return f'<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" stroke="{colour}"/>'


def circle(x: float, y: float, colour: str) -> str:
    """
    A filled dot.

    Args:
        x: Of its centre, from the left.
        y: Of its centre, from above.
        colour: As CSS has it.
    """
    return f'<circle cx="{x}" cy="{y}" r="5" fill="{colour}"/>'


def text(x: float, y: float, words: str, anchor: str = "middle", size: int = 12) -> str:
    """
    Words on one line.

    Args:
        x: Of the anchor, from the left.
        y: Of the base line, from above.
        words: Escaped here.
        anchor: The part of the words that stands at `x`: start, middle or end.
        size: Of the letters.
    """
    return f'<text x="{x}" y="{y}" font-size="{size}" text-anchor="{anchor}" fill="#222">{escape(words)}</text>'
