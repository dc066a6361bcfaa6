"""Tests of streamer.dialects.append_only."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from streamer.dialects.append_only import AppendOnlyText
from streamer.text.joining import joined


def test_turns_are_joined_by_a_space() -> None:
    """Each piece is to be appended to the ones before it."""
    growth = AppendOnlyText()
    pieces = [growth.grow("so"), growth.grow("so the"), growth.end_turn("so the first."), growth.grow("And"),
              growth.end_turn("And more.")]  # fmt: skip
    assert pieces == ["so", " the", " first.", " And", " more."]


def test_what_does_not_continue_is_held_back() -> None:
    """Nothing can be taken back, so a text that is put differently adds nothing; the next turn is whole again."""
    growth = AppendOnlyText()
    assert [growth.grow("so the"), growth.grow("So the"), growth.end_turn("So."), growth.grow("next")] == [
        "so the", "", "", " next",
    ]  # fmt: skip


@given(st.lists(st.lists(st.text("ab1好。", min_size=1, max_size=3), max_size=4), max_size=4))
def test_pieces_add_up_to_the_text_of_all_turns(turns: list[list[str]]) -> None:
    """Whatever turns grow by, the pieces are their text."""
    growth, pieces = AppendOnlyText(), []
    for words in turns:
        pieces += [growth.grow(" ".join(words[:n])) for n in range(len(words))]
        pieces.append(growth.end_turn(" ".join(words)))
    assert "".join(pieces) == joined(" ".join(words) for words in turns)
