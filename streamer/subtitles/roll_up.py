"""
Roll-up captions: the open turn in two lines at the bottom, which may change, and final lines above them. Pure.

A full line of stable words is final: it does not change again. There are more than two open lines only while the
partial text is longer than they are.
"""

from __future__ import annotations

from typing import NamedTuple

from streamer.protocol.events import Caption, TurnEnd
from streamer.subtitles.line_breaking import LINE_LETTERS, printable, wrap

LINES = 2
"""Open lines at the bottom."""


class Line(NamedTuple):
    """An open line: stable text, then partial text."""

    stable: str
    partial: str


class Rolled(NamedTuple):
    """What a caption changes: lines that are final now, and all open lines below them."""

    done: tuple[str, ...]
    open: tuple[Line, ...]


class RollUp:
    """Breaks the captions of one session into lines."""

    def __init__(self) -> None:
        self._done = ""
        """Text of the open turn in final lines, with the spaces between them but none at the end."""

    def caption(self, caption: Caption, columns: int = LINE_LETTERS) -> Rolled:
        """Break a caption of the open turn into lines of at most `columns` cells."""
        stable = printable(caption.stable).lstrip()
        text = stable + (printable(caption.partial) if stable else printable(caption.partial).lstrip())
        done = []
        while True:
            # the next caption may have a mark in the place of the space behind a final line
            at = len(text) - len(text[len(self._done) :].lstrip())
            lines = wrap(text[at:], columns)
            if len(lines) <= LINES or at + lines[0][1] > len(stable):
                break
            self._done = text[: at + lines[0][1]].rstrip()
            done.append(self._done[at:])
        n_stable = max(len(stable) - at, 0)
        return Rolled(tuple(done), tuple(_line(text[at:], start, end, n_stable) for start, end in lines))

    def turn_end(self, turn: TurnEnd, columns: int = LINE_LETTERS) -> tuple[str, ...]:
        """The remaining lines of a turn that has ended; the next caption belongs to a new turn."""
        text = printable(turn.text).strip()
        # it begins with the stable words, but punctuation may differ
        rest = text.removeprefix(self._done).lstrip()
        self._done = ""
        return tuple(rest[start:end] for start, end in wrap(rest, columns))


def _line(text: str, start: int, end: int, n_stable: int) -> Line:
    split = min(max(n_stable, start), end)
    return Line(text[start:split], text[split:end])
