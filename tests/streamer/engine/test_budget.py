"""Tests of streamer/engine/budget.py: how many tokens a step may say."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.engine.budget import (
    DENSE,
    DENSE_LANGUAGES,
    FREE_TOKENS,
    MIN_ROOM,
    MODERATE_LANGUAGES,
    RATES,
    SPARSE,
    token_budget,
    wanted_tokens,
)
from streamer.text.languages import LANGUAGES
from tests.helpers.dense import CHARACTERS_PER_SECOND, SENTENCES, tokens_of


def test_budget_grows_with_the_window() -> None:
    """A window holds so many tokens a second and a few on top; the shortest still holds some."""
    assert token_budget(0, "en") == FREE_TOKENS
    assert token_budget(1000, "en") == FREE_TOKENS + int(10 * SPARSE)
    assert token_budget(1000, "my") == FREE_TOKENS + int(10 * DENSE)


def test_committed_tokens_are_part_of_what_a_window_holds() -> None:
    """They are subtracted, down to a number that a step may always say."""
    assert token_budget(1000, "en", n_prefix=30) == token_budget(1000, "en") - 30
    assert token_budget(1000, "en", n_prefix=500) == MIN_ROOM


def test_every_language_has_a_rate() -> None:
    """Each by its code, in one class only."""
    assert set(RATES) == set(LANGUAGES)
    assert set(LANGUAGES) > DENSE_LANGUAGES | MODERATE_LANGUAGES
    assert not DENSE_LANGUAGES & MODERATE_LANGUAGES


@pytest.mark.parametrize("language", SENTENCES)
def test_no_language_is_spoken_faster_than_its_budget(language: str) -> None:
    """Real sentences at the pace of fast speech fit, so that only run-aways are cut."""
    rate = CHARACTERS_PER_SECOND.get(language, 18) * len(tokens_of(language)) / sum(map(len, SENTENCES[language]))
    assert rate <= RATES[language]


@given(n_frames=st.integers(1, 1900), n_prefix=st.integers(0, 430), language=st.sampled_from(LANGUAGES))
def test_asking_again_reaches_the_densest_rate_of_any_script(n_frames: int, n_prefix: int, language: str) -> None:
    """Each draft is what the budget before it allowed, less a word: budgets grow until the densest rate, then stop."""
    densest = max(token_budget(n_frames, "my"), MIN_ROOM + n_prefix)
    budgets = [token_budget(n_frames, language, n_prefix)]
    for _ in range(30):
        budgets.append(token_budget(n_frames, language, n_prefix, max(0, budgets[-1] - 3)))

    assert budgets == sorted(budgets)
    assert budgets[-1] + n_prefix == densest


def test_a_draft_that_fits_asks_for_nothing_more() -> None:
    """Speech of a usual pace leaves the budget as it was."""
    assert token_budget(1000, "en", n_drafted=45) == token_budget(1000, "en")
    assert wanted_tokens(0) == FREE_TOKENS
