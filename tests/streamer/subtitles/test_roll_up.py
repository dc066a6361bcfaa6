"""Tests of streamer/subtitles/roll_up.py."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from streamer.protocol.events import Caption, TurnEnd
from streamer.subtitles.roll_up import Line, RollUp


def caption(stable: str, partial: str = "") -> Caption:
    """The open turn."""
    return Caption(turn=0, rev=0, stable=stable, partial=partial, start_s=0.0, end_s=1.0)


def turn_end(text: str) -> TurnEnd:
    """Its end."""
    return TurnEnd(turn=0, text=text, start_s=0.0, end_s=1.0, language="en", reason="silence")


def test_a_line_is_done_when_all_of_it_is_stable() -> None:
    """Until then it may change, so it is not left yet."""
    roll_up = RollUp()
    assert roll_up.caption(caption("one", " two three four five"), 10).done == ()

    rolled = roll_up.caption(caption("one two three four", " five six"), 10)

    assert rolled.done == ("one two",)
    assert rolled.open == (Line("three four", ""), Line("", "five six"))


def test_the_next_turn_begins_anew() -> None:
    """What is left of a turn is done with it."""
    roll_up = RollUp()
    roll_up.caption(caption("one two three four five six"), 10)
    assert roll_up.turn_end(turn_end("one two three four five six seven."), 10) == ("three four", "five six", "seven.")
    assert roll_up.caption(caption("next"), 10).open == (Line("next", ""),)


def test_a_mark_behind_a_final_line_is_not_lost() -> None:
    """It takes the place of the space that stood there when the line became final."""
    roll_up = RollUp()
    assert roll_up.caption(caption("one two", " three four five six"), 10).done == ("one two",)

    assert roll_up.caption(caption("one two, and"), 10).open == (Line(", and", ""),)
    assert roll_up.turn_end(turn_end("one two, and three."), 10) == (", and", "three.")


def test_letters_behind_a_final_line_are_not_lost() -> None:
    """Not every language has spaces between words."""
    roll_up = RollUp()
    assert roll_up.caption(caption("字字字", " ab ab ab ab"), 6).done == ("字字字",)

    assert roll_up.turn_end(turn_end("字字字字"), 6) == ("字",)


@given(st.lists(st.text("ab字", min_size=1, max_size=12), max_size=30), st.data(), st.integers(2, 42))
def test_nothing_is_lost_or_said_twice(words: list[str], data: st.DataObject, columns: int) -> None:
    """However text grows: lines done, and those of the end, are the words in order."""
    roll_up = RollUp()
    done: list[str] = []
    n_stable = 0
    for n in range(1, len(words) + 1):
        n_stable = data.draw(st.integers(n_stable, n))
        stable, partial = " ".join(words[:n_stable]), " ".join(words[n_stable:n])
        done += roll_up.caption(caption(stable, f" {partial}" if stable and partial else partial), columns).done
    done += roll_up.turn_end(turn_end(" ".join(words)), columns)

    assert "".join(done).replace(" ", "") == "".join(words)
