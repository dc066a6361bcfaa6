"""
Captions that roll up: at the bottom two lines of the open turn, which may change; above them what is certain. Pure.

A line that is full of stable words is done: it is never set anew. Only where more than two lines are not certain yet
are there more than two.
"""

from __future__ import annotations

from typing import NamedTuple

from streamer.protocol.events import Caption, TurnEnd
from streamer.subtitles.line_breaking import LINE_LETTERS, printable, wrap

LINES = 2


class Line(NamedTuple):
    """One line that is still on the move."""

    stable: str
    partial: str


class Rolled(NamedTuple):
    """What a caption changes: lines to leave for good, and the lines below them now."""

    done: tuple[str, ...]
    open: tuple[Line, ...]


class RollUp:
    """Sets one session's captions in lines."""

    def __init__(self) -> None:
        self._done = ""
        """Of the open turn, with the spaces at the ends of lines."""

    def caption(self, caption: Caption, columns: int = LINE_LETTERS) -> Rolled:
        """The open turn as it stands, in lines of at most `columns` cells."""
        stable = printable(caption.stable).lstrip()
        text = stable + (printable(caption.partial) if stable else printable(caption.partial).lstrip())
        done = []
        while True:
            at = len(self._done)
            lines = wrap(text[at:], columns)
            if len(lines) <= LINES or at + lines[0][1] > len(stable):
                break
            done.append(text[at : at + lines[0][1]])
            self._done = text[: at + lines[1][0]]
        n_stable = max(len(stable) - at, 0)
        return Rolled(tuple(done), tuple(_line(text[at:], start, end, n_stable) for start, end in lines))

    def turn_end(self, turn: TurnEnd, columns: int = LINE_LETTERS) -> tuple[str, ...]:
        """The lines of the turn that are not done yet; the next turn begins anew."""
        text = printable(turn.text).strip()
        # its words begin with those that were stable; its marks may differ by then
        rest = (text[len(self._done) :] if text.startswith(self._done.rstrip()) else text).lstrip()
        self._done = ""
        return tuple(rest[start:end] for start, end in wrap(rest, columns))


def _line(text: str, start: int, end: int, n_stable: int) -> Line:
    split = min(max(n_stable, start), end)
    return Line(text[start:split], text[split:end])
