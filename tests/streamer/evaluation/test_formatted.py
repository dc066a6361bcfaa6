"""Tests of streamer/evaluation/formatted.py: case and punctuation are counted, quotes and brackets are not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.evaluation.formatted import formatted_score, formatted_tokens, is_formatted

TEXT = st.text(st.sampled_from("aB c,.'“-5ñ "), max_size=30)


def errors(said: str, heard: str, language: str = "en") -> int:
    """Errors of a transcript against a reference that has case and marks."""
    score = formatted_score(language, said, heard)
    assert score is not None
    return score.errors


@pytest.mark.parametrize(
    ("heard", "n"),
    [
        ("So it is, my friends.", 0),
        ("“So it is, my friends.”", 0),
        ("so it is, my friends.", 1),
        ("So it is my friends.", 1),
        ("So it is, my friends", 1),
        ("So it is. My friends.", 2),
        ("so it is my friend", 4),
        ("", 7),
    ],
)
def test_each_mark_and_each_letter_case_is_an_error(heard: str, n: int) -> None:
    """A comma that became a full stop, and the capital after it, are two."""
    assert errors("So it is, my friends.", heard) == n


def test_marks_inside_words_and_numbers_belong_to_them() -> None:
    """As do apostrophes however they are written; three dots are one mark."""
    assert formatted_tokens("It’s a well-known 1,500.5...", "en") == ["It's", "a", "well-known", "1,500.5", "…"]  # noqa: RUF001
    assert formatted_tokens("好，是。", "zh") == ["好", "，", "是", "。"]  # noqa: RUF001


@pytest.mark.parametrize(
    ("reference", "formatted"),
    [("So it is.", True), ("so it is", False), ("so it is.", False), ("So it is", False), ("好。", True), ("", False)],
)
def test_plain_references_judge_no_format(reference: str, formatted: bool) -> None:
    """Marks are needed, and capitals in a script that has them."""
    assert is_formatted(reference) is formatted
    assert (formatted_score("en", reference, "So it is.") is None) is not formatted


@given(text=TEXT)
def test_a_text_has_no_errors_against_itself(text: str) -> None:
    """Whatever it holds."""
    if is_formatted(text):
        assert errors(text, text) == 0


@given(said=TEXT, heard=TEXT)
def test_errors_are_at_least_the_difference_in_length(said: str, heard: str) -> None:
    """And none is counted twice."""
    if is_formatted(said):
        n_said, n_heard = len(formatted_tokens(said, "en")), len(formatted_tokens(heard, "en"))
        assert abs(n_said - n_heard) <= errors(said, heard) <= max(n_said, n_heard)
