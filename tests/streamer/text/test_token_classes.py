"""Tests of streamer.text.token_classes."""

from __future__ import annotations

from streamer.text.token_classes import comma_tokens, growing_tokens, small_letter_tokens

TOKENS = [word.encode() for word in ("ton", " ton", "-", "\u2019s", "!", "9", " ", "Ton", " éte", "\u3042")] + [
    b"",
    b"\xe2\x80",
    b"\xe3\x81",
]


def test_tokens_that_make_a_word_longer() -> None:
    """Letters, digits and the marks inside words; no space, no other mark, and of halves of characters no mark's."""
    assert sorted(growing_tokens(TOKENS)) == [0, 2, 3, 5, 7, 9, 12]


def test_tokens_that_begin_with_a_small_letter() -> None:
    """Behind spaces too; scripts without capitals have none."""
    assert sorted(small_letter_tokens(TOKENS)) == [0, 1, 8]


def test_tokens_that_are_commas() -> None:
    """In every script, colons and semicolons too; neither the end of a sentence nor a mark with anything else."""
    marks = [mark.encode() for mark in (",", ";", "\u3001", ".", "...", "-", " ,", ",000", "")]
    assert sorted(comma_tokens(marks)) == [0, 1, 2]
