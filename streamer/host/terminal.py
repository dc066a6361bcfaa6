"""
Live captions in a terminal: two lines that roll up with partial text faint, and the stable lines above them.

If the output is not a terminal, only final turns are written, one line each. Only ANSI sequences are used.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Sequence
from os import terminal_size
from typing import TextIO

from streamer.protocol.events import Caption, Event, TurnEnd
from streamer.subtitles.line_breaking import LINE_LETTERS, printable
from streamer.subtitles.roll_up import Line, RollUp

FAINT, NORMAL = "\x1b[2m", "\x1b[0m"
ERASE_BELOW = "\x1b[J"


class TerminalCaptions:
    """
    Draws the events of one session.

    Args:
        stream: The output, usually standard output.
        size: Returns the size of the terminal, which may change at any time.
    """

    def __init__(self, stream: TextIO, size: Callable[[], terminal_size] = shutil.get_terminal_size) -> None:
        self._stream = stream
        self._size = size
        self._is_live = stream.isatty()
        self._roll_up = RollUp()
        self._n_open = 0

    def show(self, event: Event) -> None:
        """Draw a caption or the end of a turn; other events are ignored."""
        if not self._is_live:
            if isinstance(event, TurnEnd) and event.text:
                self._write(f"{printable(event.text)}\n")
        elif isinstance(event, Caption):
            done, lines = self._roll_up.caption(event, self._columns())
            # one line less than the screen: the cursor cannot move up to lines that have scrolled away
            self._draw(done, lines[-max(self._size().lines - 1, 1) :])
        elif isinstance(event, TurnEnd):
            self._draw(self._roll_up.turn_end(event, self._columns()), ())

    def _columns(self) -> int:
        return min(self._size().columns, LINE_LETTERS)

    def _draw(self, done: Sequence[str], lines: Sequence[Line]) -> None:
        up = f"\x1b[{self._n_open - 1}A" if self._n_open > 1 else ""
        drawn = "".join(f"{line}\n" for line in done) + "\n".join(map(_styled, lines))
        self._write(f"\r{up}{ERASE_BELOW}{drawn}")
        self._n_open = len(lines)

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()


class TerminalNotes:
    """
    Lines for a person who watches the start of a program; where the output is no terminal, none are written.

    Args:
        stream: The output, usually standard error.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def say(self, line: str) -> None:
        """Write a line, on a terminal."""
        if self._stream.isatty():
            self._stream.write(f"{line}\n")
            self._stream.flush()


def has_person() -> bool:
    """Whether a person typed the command: standard input is a terminal."""
    return sys.stdin is not None and sys.stdin.isatty()


def _styled(line: Line) -> str:
    return line.stable + (f"{FAINT}{line.partial}{NORMAL}" if line.partial else "")
