"""Tests of streamer/engine/beams.py: searches in small languages whose every text can be listed."""

from __future__ import annotations

import itertools
import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.engine.beams import Beams, Candidate, Hypothesis
from streamer.text.repetition import is_repetition_loop

EOT = 3
TOKENS = (0, 1, 2)


class Language:
    """Chances of three tokens and of the end after each text, drawn from a seed."""

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def candidates(self, text: Hypothesis) -> list[Candidate]:
        """All four, whatever their order."""
        chances = random.Random(f"{self._seed} {text.tokens}").sample(range(1, 50), 4)
        return [Candidate(token, math.log(chance / sum(chances))) for token, chance in enumerate(chances)]

    def search(self, width: int, budget: int) -> Hypothesis:
        """The text that a search finds."""
        beams = Beams(width, budget, EOT)
        while not beams.is_done:
            beams.extend([self.candidates(text) for text in beams.open])
        return beams.best

    def read(self, tokens: tuple[int, ...]) -> Hypothesis:
        """A text and its end."""
        text = Hypothesis()
        for token in (*tokens, EOT):
            text = text.followed_by(self.candidates(text)[token], EOT)
        return text


@given(seed=st.integers(0, 10**6), budget=st.integers(1, 4))
def test_wide_enough_a_search_finds_the_best_text(seed: int, budget: int) -> None:
    """With a beam for each text that there is, the best one of all texts that end is found."""
    language = Language(seed)
    texts = itertools.chain.from_iterable(itertools.product(TOKENS, repeat=n) for n in range(budget))
    best = max((language.read(tokens) for tokens in texts), key=lambda text: text.mean_score)
    assert language.search(3**budget + 1, budget).mean_score == pytest.approx(best.mean_score)


@given(seed=st.integers(0, 10**6))
def test_one_beam_is_greedy(seed: int) -> None:
    """It follows the likeliest token, and ends where that is the end."""
    language, text = Language(seed), Hypothesis()
    while not text.ended and len(text.tokens) < 6:
        text = text.followed_by(max(language.candidates(text), key=lambda each: each.logprob), EOT)
    found = language.search(1, 6)
    assert (found.tokens, found.ended) == (text.tokens, text.ended)


@given(seed=st.integers(0, 10**6), width=st.integers(1, 5), budget=st.integers(1, 8))
def test_texts_are_bounded_and_made_of_their_parents(seed: int, width: int, budget: int) -> None:
    """Each open text is that of its parent and one token; no more texts than beams, no longer than the budget."""
    language, beams = Language(seed), Beams(width, budget, EOT)
    while not beams.is_done:
        before = beams.open
        parents = beams.extend([language.candidates(text) for text in before])
        assert [before[parent].tokens for parent in parents] == [text.tokens[:-1] for text in beams.open]
        assert len(beams.open) <= width
    assert len(beams.best.tokens) <= budget
    assert len(beams.best.logprobs) == len(beams.best.tokens)


def test_a_beam_takes_back_a_likely_word() -> None:
    """What is likelier at first loses against what is likelier on the whole."""
    beams = Beams(2, 3, EOT)
    beams.extend([[Candidate(0, math.log(0.6)), Candidate(1, math.log(0.4))]])
    beams.extend([[Candidate(EOT, math.log(0.1))], [Candidate(EOT, math.log(0.9))]])
    assert beams.best.tokens == (1,)


def test_a_preference_compares_and_is_no_probability() -> None:
    """As that of a capital where a sentence begins."""
    beams = Beams(1, 3, EOT)
    beams.extend([[Candidate(0, -0.5, preference=-4.0), Candidate(1, -1.0)]])
    assert (beams.best.tokens, beams.best.logprobs) == ((1,), (-1.0,))


def test_circles_are_left() -> None:
    """A text that goes round in circles is no text; where every one does, there is none."""
    beams = Beams(1, 400, EOT)
    while not beams.is_done:
        beams.extend([[Candidate(0, -0.1)]])
    assert beams.best == Hypothesis()
    assert not is_repetition_loop(beams.best.tokens)


def test_a_text_that_never_ends_is_cut() -> None:
    """And says so."""
    beams = Beams(1, 2, EOT)
    for token in (0, 1):
        beams.extend([[Candidate(token, -0.1)]])
    assert beams.is_done
    assert (beams.best.tokens, beams.best.ended) == ((0, 1), False)
