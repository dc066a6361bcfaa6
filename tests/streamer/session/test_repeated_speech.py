"""Tests of streamer/session/repeated_speech.py: rounds that were said are kept, rounds without sound are not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.session.repeated_speech import LONGEST_ROUND, without_unsaid_rounds
from streamer.session.words import SpokenWord
from tests.helpers.words import word

ROUND = st.lists(st.sampled_from([" ask", " what", " you", " can", " do", " for"]), min_size=1, max_size=6, unique=True)


def rounds(texts: list[str], n: int, start_s: float, word_s: float = 0.3) -> list[SpokenWord]:
    """A round said `n` times, each word `word_s` seconds long, back to back."""
    return [
        word(text, start_s + i * word_s, start_s + (i + 1) * word_s)
        for i, text in enumerate(text for _ in range(n) for text in texts)
    ]


def texts_of(words: list[SpokenWord]) -> list[str]:
    """Their texts, in order."""
    return [each.text for each in words]


@given(
    texts=ROUND, n_before=st.integers(0, 4), n=st.integers(0, 6), last=st.integers(0, 5), word_s=st.floats(0.01, 0.6)
)
def test_what_was_said_is_kept(texts: list[str], n_before: int, n: int, last: int, word_s: float) -> None:
    """However often, committed or not, and with a round that is not complete yet."""
    before = rounds(texts, n_before, 0.0, word_s)
    words = [*rounds(texts, n, 10.0, word_s), *rounds(texts[:last], 1, 40.0, word_s)]
    assert without_unsaid_rounds(before, words) == words


@given(
    texts=ROUND,
    n_before=st.integers(1, 4),
    n_unsaid=st.integers(1, 4),
    n_said=st.integers(0, 3),
    last=st.integers(0, 5),
    word_s=st.floats(0.15, 0.6),
)
def test_rounds_without_sound_are_left_out(
    texts: list[str], n_before: int, n_unsaid: int, n_said: int, last: int, word_s: float
) -> None:
    """Wherever they stand, the text is as long as what was said, and goes on in step."""
    before = rounds(texts, n_before, 0.0, word_s)
    said = [*rounds(texts, n_said, 10.0, word_s), *rounds(texts[: last % len(texts)], 1, 30.0, word_s)]
    words = [*rounds(texts, n_unsaid, 9.9, 0.0), *said]
    assert texts_of(without_unsaid_rounds(before, words)) == texts_of(said)


@given(texts=ROUND, n=st.integers(1, 4), n_unsaid=st.integers(1, 4))
def test_a_clause_after_the_repetition_is_kept(texts: list[str], n: int, n_unsaid: int) -> None:
    """Only rounds are left out, never what follows them."""
    clause = rounds([" nothing", " more", " comes"], 1, 30.0)
    words = [*rounds(texts, n, 0.0), *rounds(texts, n_unsaid, 20.0, 0.0), *clause]
    assert texts_of(without_unsaid_rounds([], words)) == [*texts * n, *texts_of(clause)]


@given(words=st.lists(st.tuples(st.sampled_from([" so", " it", " is"]), st.floats(0, 0.5)), max_size=12))
def test_words_that_do_not_repeat_are_left_alone(words: list[tuple[str, float]]) -> None:
    """A word may have no time at all where the attention is not sure of it."""
    said = [word(f"{text}{i}", float(i), i + length_s) for i, (text, length_s) in enumerate(words)]
    assert without_unsaid_rounds([], said) == said


@pytest.mark.parametrize("n_words", [17, 31, 50, LONGEST_ROUND])
def test_a_whole_text_that_is_said_once_more_without_sound_is_left_out(n_words: int) -> None:
    """As by a decoder that has strayed in noise; a speaker who repeats himself takes his time for it."""
    text = [f" word{i % 29}x{i}" for i in range(n_words)]
    before = rounds(text, 1, 0.0)
    stop, first = word(".", 14.9, 14.9), word(text[0], 15.0, 15.5)
    assert without_unsaid_rounds(before, rounds(text, 1, 15.0, 0.0)) == []
    assert without_unsaid_rounds(before, [stop, first, *rounds(text[1:], 1, 15.5, 0.0)]) == [stop]
    assert without_unsaid_rounds(before, said := [stop, *rounds(text, 1, 15.0)]) == said


def test_a_last_word_may_hold_the_pause_behind_its_round() -> None:
    """The words before it share one instant, and the words after it are the round that was said."""
    sentence = [" ask", " what", " you", " can", " do"]
    before = rounds(sentence, 1, 0.0)
    unsaid = [*rounds(sentence[:4], 1, 1.6, 0.0), word(sentence[4], 1.6, 2.3)]
    said = rounds(sentence[:3], 1, 2.3)
    assert texts_of(without_unsaid_rounds(before, [*unsaid, *said])) == texts_of(said)


@pytest.mark.parametrize("text", [" very", " no,", " that"])
def test_a_word_said_twice_stays(text: str) -> None:
    """Even if the second is much shorter: half as long is still said."""
    words = [word(text, 0.0, 0.4), word(text, 0.4, 0.6), word(" good", 0.6, 1.0)]
    assert without_unsaid_rounds([], words) == words


def test_marks_belong_to_their_words() -> None:
    """Marks that stand alone neither end a round nor stay without it."""
    before = [*rounds([" no"], 1, 0.0), word(",", 0.3, 0.3)]
    words = [word(" no", 0.4, 0.4), word(",", 0.4, 0.4), *rounds([" no", " more"], 1, 0.5)]
    assert texts_of(without_unsaid_rounds(before, words)) == [" no", " more"]


def test_long_texts_cost_little() -> None:
    """Rounds longer than the longest are not looked for."""
    sentence = [f" word{i}" for i in range(LONGEST_ROUND + 1)]
    words = [*rounds(sentence, 1, 0.0), *rounds(sentence, 1, 9.0, 0.0), word(" end", 10.0)]
    assert without_unsaid_rounds([], words) == words
