"""Tests of streamer.host.terminal."""

from __future__ import annotations

import io
import re
from os import terminal_size

from streamer.host.terminal import FAINT, NORMAL, TerminalCaptions
from streamer.protocol.events import Ack, Caption, TurnEnd


class Screen(io.StringIO):
    """A terminal of a few lines that obeys the sequences that are written to it."""

    def isatty(self) -> bool:
        return True

    def lines(self) -> list[str]:
        """What is seen, with the styles left in."""
        rows, row = [""], 0
        for token in re.findall(r"\x1b\[\d+A|\x1b\[J|\r|\n|[^\x1b\r\n]+|\x1b\[\dm", self.getvalue()):
            if token == "\n":
                row += 1
                rows[row:row] = [""] * (row == len(rows))
            elif token.endswith("A") and token.startswith("\x1b"):
                row -= int(token[2:-1])
            elif token == "\x1b[J":
                rows[row:] = [""]
            elif token != "\r":
                rows[row] += token
        return rows


def caption(stable: str, partial: str) -> Caption:
    return Caption(turn=0, rev=1, stable=stable, partial=partial, start_s=0, end_s=1)


def turn_end(text: str) -> TurnEnd:
    return TurnEnd(turn=0, text=text, start_s=0, end_s=1, language="en", reason="silence")


def captions_on(stream: io.StringIO, columns: int = 20, lines: int = 5) -> TerminalCaptions:
    return TerminalCaptions(stream, lambda: terminal_size((columns, lines)))


def test_the_open_turn_is_redrawn_with_a_faint_tail() -> None:
    """A newer caption replaces the older one; stable text is normal, partial text faint."""
    screen = Screen()
    captions = captions_on(screen)
    captions.show(caption("", " so the"))
    captions.show(caption("so the", " first"))
    assert screen.lines() == [f"so the{FAINT} first{NORMAL}"]


def test_a_final_turn_stays_and_the_next_begins_below() -> None:
    """`turn_end` leaves its text in normal style; an empty turn leaves nothing."""
    screen = Screen()
    captions = captions_on(screen)
    captions.show(caption("so", " thee"))
    captions.show(turn_end("so the."))
    captions.show(caption("", "uh"))
    captions.show(turn_end(""))
    captions.show(caption("and", ""))
    assert screen.lines() == ["so the.", "and"]


def test_two_lines_roll_up() -> None:
    """A line full of stable words is left for good, the two below it are drawn anew; nothing is left behind."""
    screen = Screen()
    captions = captions_on(screen, columns=10)
    captions.show(caption("one two three", " four five"))
    assert screen.lines() == ["one two", f"three{FAINT} four{NORMAL}", f"{FAINT}five{NORMAL}"]
    captions.show(caption("one two three", ""))
    captions.show(turn_end("one two three."))
    assert screen.lines() == ["one two", "three.", ""]


def test_lines_are_no_longer_than_captions_are() -> None:
    """On a wide terminal too: short lines are read at a glance."""
    screen = Screen()
    captions_on(screen, columns=200).show(caption("so what is solid stays where it is, and only the end", ""))
    assert screen.lines() == ["so what is solid stays where it is, and", "only the end"]


def test_no_more_than_the_screen_is_drawn() -> None:
    """The cursor cannot return to lines that have scrolled away, so only the last ones are drawn."""
    screen = Screen()
    captions = captions_on(screen, columns=4, lines=3)
    captions.show(caption("", "aaa bbb ccc ddd"))
    captions.show(caption("", "aaa bbb ccc ddd eee"))
    assert screen.lines() == [f"{FAINT}ddd{NORMAL}", f"{FAINT}eee{NORMAL}"]


def test_without_a_terminal_only_final_turns_are_written() -> None:
    """A pipe gets one line per turn and no escape sequence."""
    stream = io.StringIO()
    captions = captions_on(stream)
    for event in (caption("so", " the"), turn_end("so the."), turn_end(""), turn_end("And.")):
        captions.show(event)
    assert stream.getvalue() == "so the.\nAnd.\n"


def test_other_events_show_nothing() -> None:
    """Acknowledgements are not for reading."""
    screen = Screen()
    captions_on(screen).show(Ack(received_s=1, stable_s=1, lag_s=0))
    assert screen.getvalue() == ""
