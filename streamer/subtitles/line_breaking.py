"""
Width of text and line breaks, for captions on a screen, in files and in a terminal. Pure.

Scripts differ: a character of Chinese, Japanese or Korean is twice as wide as a Latin one and takes longer to read, a
combining mark has no width, and some marks may not begin a line. Right-to-left text stays in its logical order; players
and terminals display it from the right.
"""

from __future__ import annotations

import re
import unicodedata

from streamer.text.punctuation import CLAUSE_ENDS

LINE_LETTERS = 42
"""Narrow characters in a line of captions, by the rules of broadcasters."""
LINE_WIDE_LETTERS = 16
"""Wide characters in a line of captions."""
LINE = LINE_LETTERS * LINE_WIDE_LETTERS // 2
"""Width of a line in the units of `width`, chosen so that both sorts of characters are whole numbers."""
NARROW, WIDE = LINE // LINE_LETTERS, LINE // LINE_WIDE_LETTERS

CLOSING = frozenset("".join(CLAUSE_ENDS) + ")]}»”’）」』】》〉ー々ぁぃぅぇぉっゃゅょァィゥェォッャュョ")  # noqa: RUF001
"""Characters that may not begin a line."""

_WIDE = re.compile(
    "[\u1100-\u115f\u2e80-\u303e\u3041-\u33ff\u3400-\u4dbf\u4e00-\u9fff\ua000-\ua4cf\ua960-\ua97c\uac00-\ud7a3"
    "\uf900-\ufaff\ufe30-\ufe6f\uff00-\uff60\uffe0-\uffe6\U0001f300-\U0001f64f\U0001f900-\U0001f9ff"
    "\U00020000-\U0003fffd]"
)
_JOINERS = "\u200b\u200c\u200d\u200e\u200f\u2060\ufeff"
_RIGHT_TO_LEFT = ("R", "AL")


def cells(char: str) -> int:
    """Number of cells of a terminal that a character takes: 0, 1 or 2."""
    if char in _JOINERS or unicodedata.category(char).startswith("M"):
        return 0
    return 2 if _WIDE.match(char) else 1


def width(text: str) -> int:
    """Width of a text in units of which a line of captions has `LINE`."""
    return sum((0, NARROW, WIDE)[cells(char)] for char in text)


def is_right_to_left(text: str) -> bool:
    """Whether the first letter with a direction belongs to a right-to-left script."""
    for char in text:
        direction = unicodedata.bidirectional(char)
        if direction == "L" or direction in _RIGHT_TO_LEFT:
            return direction != "L"
    return False


def printable(text: str) -> str:
    """Text with spaces for control characters: text of a model or a client must not control a terminal or a player."""
    return "".join(char if char.isprintable() or char in _JOINERS else " " for char in text)


def cut(text: str) -> int:
    """
    Where to end the first line of a text that is longer than a line: at a space, after a clause, or at its full width.

    Returns:
        Number of characters of the line, at least 1; a space behind them belongs to no line.
    """
    end = _end_of_line(text)
    space = text.rfind(" ", 1, end + 1)
    if space > 0:
        return space
    clause = max((at for at in range(end // 2 + 1, end + 1) if text[at - 1] in CLAUSE_ENDS), default=0)
    at = clause or end
    while at > 1 and at < len(text) and (text[at] in CLOSING or cells(text[at]) == 0):
        at -= 1
    return at


def _end_of_line(text: str) -> int:
    taken = 0
    for i, char in enumerate(text):
        taken += width(char)
        if taken > LINE:
            return max(i, 1)
    return len(text)


def wrap(text: str, columns: int) -> list[tuple[int, int]]:
    """
    Break text into lines of at most `columns` cells, at spaces where possible.

    Returns:
        Start and end of each line in `text`; the space at a break belongs to no line.
    """
    lines = []
    start = 0
    while start < len(text):
        end = _end_of_cells(text, start, columns)
        space = text.rfind(" ", start, end + 1)
        if end < len(text) and space > start:
            end = space
        lines.append((start, end))
        start = end + text.startswith(" ", end)
    return lines


def _end_of_cells(text: str, start: int, columns: int) -> int:
    """End of the characters from `start` on that fit into `columns` cells, at least one character."""
    taken = 0
    for end in range(start, len(text)):
        taken += cells(text[end])
        if taken > columns and end > start:
            return end
    return len(text)
