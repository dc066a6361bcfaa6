"""Tests of streamer/dialects/word_slices.py: pieces of a caption."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from streamer.dialects.word_slices import part_of
from streamer.protocol.events import Word


def words(*texts: str) -> tuple[Word, ...]:
    """Words without times."""
    return tuple(Word(text=text, start_s=0.0, end_s=0.0, confidence=1.0) for text in texts)


def test_a_piece_keeps_spaces_and_marks() -> None:
    """Marks stay with the word before them."""
    said = words("So,", "the", "thing")
    assert part_of("So, the thing!", said, 0, 1) == "So,"
    assert part_of("So, the thing!", said, 1, 2) == "the"
    assert part_of("So, the thing!", said, 1) == "the thing!"
    assert part_of("So, the thing!", said, 3) == ""
    assert part_of("- So", words("So"), 0) == "- So"
    assert part_of("", (), 0) == ""
    assert part_of("...", (), 0) == "..."


def test_words_without_spaces_are_cut_apart() -> None:
    """Not every language has them."""
    said = words("今日", "は", "晴れ")
    assert part_of("今日は晴れ", said, 0, 2) == "今日は"
    assert part_of("今日は晴れ", said, 2) == "晴れ"


@given(st.lists(st.text("ab,'", min_size=1, max_size=3), max_size=8), st.data())
def test_pieces_together_hold_every_word(texts: list[str], data: st.DataObject) -> None:
    """The pieces of a text are the text."""
    cut = data.draw(st.integers(0, len(texts)))
    text = " ".join(texts)
    assert f"{part_of(text, words(*texts), 0, cut)} {part_of(text, words(*texts), cut)}".split() == text.split()
