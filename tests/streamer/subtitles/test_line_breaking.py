"""Tests of streamer/subtitles/line_breaking.py."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.subtitles.line_breaking import LINE, cells, cut, is_right_to_left, printable, width, wrap


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


def test_a_line_holds_42_narrow_or_16_wide_characters() -> None:
    """A mark that combines takes nothing, and one more of the others is too much."""
    assert width("a" * 42) == width("字" * 16) == LINE
    assert width("e\N{COMBINING ACUTE ACCENT}") == width("e")


@given(st.text(st.characters(codec="utf-8", max_codepoint=0xFFFF), min_size=1, max_size=1))
def test_wide_is_what_the_standard_calls_so(char: str) -> None:
    """Of letters of the scripts that are wide; symbols differ from font to font."""
    if unicodedata.category(char) == "Lo" and unicodedata.east_asian_width(char) == "W":
        assert cells(char) == 2
    if unicodedata.category(char) in ("Lu", "Ll") and unicodedata.east_asian_width(char) in "NaNaN":
        assert cells(char) == 1


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("one two " + "x" * 40, "one two"),
        ("x" * 60, "x" * 42),
        ("字" * 12 + "、" + "幕" * 9, "字" * 12 + "、"),
        ("字" * 16 + "。" + "幕" * 9, "字" * 15),
        ("e\N{COMBINING ACUTE ACCENT}" * 50, "e\N{COMBINING ACUTE ACCENT}" * 42),
    ],
)
def test_long_text_is_cut_where_it_reads_best(text: str, first: str) -> None:
    """At a space, after a clause; no mark begins a line, and no accent is parted from its letter."""
    assert text[: cut(text)] == first


def test_direction_is_that_of_the_first_letter() -> None:
    """Digits and marks have none."""
    assert is_right_to_left("2026 שלום")
    assert not is_right_to_left("Ray שלום")
    assert not is_right_to_left("123.")
