"""Tests of streamer.terminal."""

from __future__ import annotations

import io
import re
from os import terminal_size

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.events import Ack, Caption, TurnEnd
from streamer.terminal import FAINT, NORMAL, TerminalCaptions, printable, wrap


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


def test_long_turns_are_redrawn_over_all_their_lines() -> None:
    """A turn over several lines shrinks and grows without leaving anything behind."""
    screen = Screen()
    captions = captions_on(screen, columns=10)
    captions.show(caption("one two three", " four five"))
    assert screen.lines() == ["one two", f"three{FAINT} four{NORMAL}", f"{FAINT}five{NORMAL}"]
    captions.show(caption("one two three", ""))
    captions.show(turn_end("one two three."))
    assert screen.lines() == ["one two", "three.", ""]


def test_no_more_than_the_screen_is_drawn() -> None:
    """The cursor cannot return to lines that have scrolled away, so only the last ones are drawn."""
    screen = Screen()
    captions = captions_on(screen, columns=4, lines=3)
    captions.show(caption("aaa bbb ccc ddd", ""))
    captions.show(caption("aaa bbb ccc ddd", " eee"))
    assert screen.lines() == ["ddd", f"{FAINT}eee{NORMAL}"]


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


def test_control_characters_do_not_reach_the_terminal() -> None:
    """An escape sequence in the text is shown, not obeyed."""
    assert printable("a\x1b[2Jb\nc") == "a [2Jb c"


@pytest.mark.parametrize(
    ("text", "columns", "lines"),
    [
        ("", 10, []),
        ("one two", 7, ["one two"]),
        ("one two", 6, ["one", "two"]),
        ("extraordinary", 5, ["extra", "ordin", "ary"]),
        ("日本語字幕", 4, ["日本", "語字", "幕"]),
        ("日", 1, ["日"]),
    ],
)
def test_lines_break_at_spaces_and_count_cells(text: str, columns: int, lines: list[str]) -> None:
    """Words are kept whole where they fit; wide characters take two cells."""
    assert [text[start:end] for start, end in wrap(text, columns)] == lines


@given(st.text(alphabet="ab 日", max_size=60), st.integers(1, 12))
def test_wrapping_loses_nothing(text: str, columns: int) -> None:
    """Every character but the spaces at breaks is on a line."""
    shown = "".join(text[start:end] for start, end in wrap(text, columns))
    assert shown.replace(" ", "") == text.replace(" ", "")
