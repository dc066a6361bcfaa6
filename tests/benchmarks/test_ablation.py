"""Tests of benchmarks/ablation.py."""

from __future__ import annotations

import pytest

from benchmarks.ablation import RULES, outcome, replaced
from streamer.session import plausibility
from streamer.step import StepResult
from tests.helpers.judged import judged


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_is_found_where_it_is_used(rule: str) -> None:
    """A rule that was renamed or moved would be taken away nowhere."""
    with RULES[rule]():
        pass


def test_a_rule_is_away_for_the_length_of_a_run() -> None:
    """A text that is unlikely, of a window without speech, is speech meanwhile."""
    result = StepResult(
        tokens=(1, 2),
        logprobs=(-3.0, -3.0),
        starts_s=(0.0, 0.1, 0.2),
        n_verified=0,
        ended=True,
        no_speech_prob=0.9,
        language="en",
    )

    with replaced("is_unlikely", lambda _: False):
        assert not plausibility.is_no_speech(result)
    assert plausibility.is_no_speech(result)


def test_a_name_that_no_module_has_is_refused() -> None:
    """The error names it."""
    with (
        pytest.raises(LookupError, match="has no_such_rule: it was renamed or moved"),
        replaced("no_such_rule", 1),
    ):
        pass


def test_words_without_speech_are_counted_apart() -> None:
    """Inserted and lost words are told apart in recordings with speech."""
    found = outcome([judged("red sun", "red"), judged("sky", "sky blue"), judged("", "thank you", kind="nonspeech")])

    assert (found.errors["short"], found.n_words["short"]) == (2, 3)
    assert (found.inserted, found.deleted, found.invented) == (1, 1, 2)
