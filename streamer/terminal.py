"""
Live captions in a terminal: the open turn is redrawn in place, its partial text faint; a final turn stays.

Where output is no terminal only final turns are written, one line each. Plain ANSI sequences, nothing else.
"""

from __future__ import annotations

import shutil
import unicodedata
from collections.abc import Callable
from os import terminal_size
from typing import TextIO

from streamer.events import Caption, Event, TurnEnd

FAINT, NORMAL = "\x1b[2m", "\x1b[0m"
ERASE_BELOW = "\x1b[J"


class TerminalCaptions:
    """
    Draws the events of one session.

    Args:
        stream: Where to draw, usually standard output.
        size: Tells the size of the terminal, which may change at any time.
    """

    def __init__(self, stream: TextIO, size: Callable[[], terminal_size] = shutil.get_terminal_size) -> None:
        self._stream = stream
        self._size = size
        self._is_live = stream.isatty()
        self._n_lines = 0

    def show(self, event: Event) -> None:
        """Draw a caption or a turn's end; other events have nothing to show."""
        if isinstance(event, TurnEnd):
            self._end_turn(printable(event.text))
        elif isinstance(event, Caption) and self._is_live:
            stable = printable(event.stable).lstrip()
            self._redraw(stable, printable(event.partial) if stable else printable(event.partial).lstrip())

    def _end_turn(self, text: str) -> None:
        if not self._is_live:
            self._write(f"{text}\n" if text else "")
            return
        self._redraw(text, "")
        self._write("\n" if text else "")
        self._n_lines = 0

    def _redraw(self, stable: str, partial: str) -> None:
        size = self._size()
        text = stable + partial
        # one line less than the screen: the cursor cannot go up to what has scrolled away
        lines = wrap(text, size.columns)[-max(size.lines - 1, 1) :]
        up = f"\x1b[{self._n_lines - 1}A" if self._n_lines > 1 else ""
        drawn = "\n".join(_styled(text, start, end, len(stable)) for start, end in lines)
        self._write(f"\r{up}{ERASE_BELOW}{drawn}")
        self._n_lines = len(lines)

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()


def printable(text: str) -> str:
    """Text without control characters: what a model or a client says must not steer a terminal."""
    return "".join(char if char.isprintable() else " " for char in text)


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
    """Where the characters from `start` on fill a line; at least one is taken."""
    cells = 0
    for end in range(start, len(text)):
        cells += _n_cells(text[end])
        if cells > columns and end > start:
            return end
    return len(text)


def _n_cells(char: str) -> int:
    if unicodedata.combining(char):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def _styled(text: str, start: int, end: int, n_stable: int) -> str:
    split = min(max(n_stable, start), end)
    partial = text[split:end]
    return text[start:split] + (f"{FAINT}{partial}{NORMAL}" if partial else "")
