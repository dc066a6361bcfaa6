"""Tests of streamer/text/punctuation.py: turns and subtitles agree on where a sentence ends."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.session.transcript import Transcript
from streamer.text.punctuation import (
    ABBREVIATIONS,
    CLAUSE_ENDS,
    SENTENCE_ENDS,
    reads_as_finished,
    without_leading_marks,
)
from tests.helpers.words import word

ENDS = st.sampled_from(SENTENCE_ENDS)
LETTERS = st.text(st.characters(categories=["Ll", "Lo"]), min_size=2, max_size=12)
CLOSING = st.sampled_from(["", '"', "'", ")", "”", "»", "]", "」"])


@pytest.mark.parametrize("mark", SENTENCE_ENDS)
def test_turns_and_subtitles_see_the_same_sentences(mark: str) -> None:
    """A turn that is too long ends at any mark at which a subtitle may end."""
    transcript = Transcript(words=False)
    transcript.commit([word(f" so{mark}")])

    assert transcript.ends_sentence
    assert mark in CLAUSE_ENDS


@pytest.mark.parametrize("mark", ["…", "\N{ARABIC FULL STOP}", "\N{DEVANAGARI DANDA}", "\N{ETHIOPIC FULL STOP}"])
def test_marks_of_other_scripts_end_a_sentence(mark: str) -> None:
    """They are written as single characters, not as ASCII dots."""
    assert mark in SENTENCE_ENDS


@given(words=st.lists(LETTERS, min_size=1, max_size=4), mark=ENDS, closing=CLOSING, space=st.sampled_from(["", " "]))
def test_a_sentence_is_finished_with_its_mark_alone(words: list[str], mark: str, closing: str, space: str) -> None:
    """Quotes and brackets may close after the mark; without a mark no text is finished, whatever its words."""
    text = " ".join([*words, "finished"])

    assert reads_as_finished(f"{text}{mark}{closing}{space}")
    assert not reads_as_finished(f"{text}{closing}{space}")
    assert not reads_as_finished(f"{text}{mark} {text},{closing}")


@given(before=st.sampled_from(["", "I met ", "At the house of "]), word=st.sampled_from(sorted(ABBREVIATIONS)))
def test_an_abbreviation_is_not_finished(before: str, word: str) -> None:
    """A full stop that belongs to the word ends no sentence; another mark after the word does."""
    for written in (word, word.capitalize(), word.upper()):
        assert not reads_as_finished(f"{before}{written}.")
        assert reads_as_finished(f"{before}{written}!")


@pytest.mark.parametrize(
    "text", ["Chapter 3.", "am 24.", "John F.", "in the U.S.", "e.g.", "say (Mr.", "", ".,", "Well,"]
)
def test_ordinals_initials_and_clauses_are_not_finished(text: str) -> None:
    """What may go on is waited for."""
    assert not reads_as_finished(text)


@pytest.mark.parametrize(
    "text", ["It was 1961.", "So did I.", "No.", "Plan b.", "And then...", "好。", "He left.\u201d", "Really?!"]
)
def test_sentences_are_finished(text: str) -> None:
    """A year, the pronoun "I", an ellipsis, and marks in quotes."""
    assert reads_as_finished(text)


@given(
    marks=st.text(st.sampled_from(",.;:!?…)%]”»、。，-"), max_size=4),  # noqa: RUF001 - as written in the scripts
    text=LETTERS,
    opening=st.sampled_from(["", '"', "'", "“", "«", "¿", "¡", "(", "[", "「", "$", "#"]),
)
def test_leading_marks_are_left_out_up_to_the_first_word(marks: str, text: str, opening: str) -> None:
    """Opening quotes, brackets, question marks and symbols belong to the word after them and stay."""
    assert without_leading_marks(f"{marks} {opening}{text}").strip() == f"{opening}{text}"
    assert without_leading_marks(f" {marks}") == ""
    assert without_leading_marks(f" {text}{marks}") == f" {text}{marks}"


def test_a_negative_number_keeps_its_sign() -> None:
    """The dash before a digit opens the number; any other dash joins the word before it."""
    assert without_leading_marks(" -5 degrees") == " -5 degrees"
    assert without_leading_marks(" - so") == " so"


@given(text=st.text(max_size=20))
def test_what_is_left_begins_with_no_mark_of_the_left(text: str) -> None:
    """Whatever the text, it is a part of it, and once shortened it stays as it is."""
    left = without_leading_marks(text)

    assert text.endswith(left.lstrip())
    assert without_leading_marks(left) == left
    first = left.strip()[:1]
    assert not first or (first not in CLAUSE_ENDS and unicodedata.category(first) not in ("Pe", "Pf"))
