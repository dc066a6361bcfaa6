"""Tests of streamer/session/commit_policy.py: which leading words of a hypothesis are certain."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.session.commit_policy import HALF, HALF_HOLD_BACK_S, POLICIES, RUNS_INTO_S, Agreement, CommitPolicy
from tests.helpers.words import phrase, word

FAR_S = 1e6
"""An edge so late that nothing is held back."""

"""An edge so late that nothing is held back."""


def agreement(n: int, hold_back_s: float = 0.0) -> Agreement:
    """Agreement of n hypotheses."""
    return Agreement(CommitPolicy(agreement=n, hold_back_s=hold_back_s))


def certain(agreed: Agreement, text: str, edge_s: float = FAR_S) -> int:
    """How many words of a text are certain now."""
    return agreed.certain(phrase(text), edge_s)


class TestAgreement:
    """LocalAgreement-n with hold-back."""

    @pytest.mark.parametrize("n", [1, 2, 3, 4])
    def test_needs_n_equal_hypotheses(self, n: int) -> None:
        """A word is certain with the n-th hypothesis in a row that says it, not earlier."""
        agreed = agreement(n)
        assert [certain(agreed, " so it is") for _ in range(n)] == [0] * (n - 1) + [3]

    def test_only_the_common_beginning(self) -> None:
        """Words after the first difference are not certain, even where they are equal again."""
        agreed = agreement(2)
        certain(agreed, " a b x d")
        assert certain(agreed, " a b c d") == 2
        assert certain(agreed, " a b c d e") == 4

    def test_three_must_all_agree(self) -> None:
        """One dissenter among the last three is enough."""
        agreed = agreement(3)
        assert [certain(agreed, text) for text in (" a b", " a c", " a b", " a b", " a b")] == [0, 0, 1, 1, 2]

    def test_empty_hypothesis_breaks_the_row(self) -> None:
        """A hypothesis that says nothing agrees with nothing."""
        agreed = agreement(2)
        assert [certain(agreed, text) for text in (" a b", "", " a b", " a b")] == [0, 0, 0, 2]

    def test_holds_back_what_is_near_the_edge(self) -> None:
        """A word is certain only if it ends at least the hold-back before the newest sound; so are those after it."""
        agreed = agreement(1, hold_back_s=0.5)
        words = phrase(" a b c", word_s=0.4)  # ending at 0.4, 0.8 and 1.2
        assert [agreed.certain(words, edge_s) for edge_s in (0.85, 0.95, 1.35, 1.75)] == [0, 1, 2, 3]

    @pytest.mark.parametrize(
        ("confidence", "gap_s", "n"),
        [(HALF - 0.01, 0.0, (0, 0, 1)), (HALF, 0.0, (0, 1, 1)), (HALF - 0.01, RUNS_INTO_S + 0.01, (0, 1, 1))],
    )
    def test_a_word_that_runs_into_a_doubtful_one_waits(
        self, confidence: float, gap_s: float, n: tuple[int, ...]
    ) -> None:
        """Both may be halves of a third word, unless there is a pause between them or the second is likely."""
        agreed = agreement(1, hold_back_s=0.5)
        words = [word(" die", 0.0, 1.0), replace(word(" Nus", 1.0 + gap_s, 9.0), confidence=confidence)]
        edges_s = (1.45, 1.55, 1.55 + HALF_HOLD_BACK_S)
        assert tuple(agreed.certain(words, edge_s) for edge_s in edges_s) == n

    def test_marks_do_not_shift_words(self) -> None:
        """Hypotheses that differ in standing marks alone agree on every word."""
        agreed = agreement(2)
        certain(agreed, " well then , no")
        assert certain(agreed, " - well , then no") == 5

    def test_marks_alone_do_not_block(self) -> None:
        """Marks before the first uncertain word go with the words before them."""
        agreed = agreement(2)
        certain(agreed, " yes no")
        assert certain(agreed, " yes ... maybe") == 2

    def test_marks_alone_are_never_certain(self) -> None:
        """Nothing but punctuation is no reason to commit."""
        agreed = agreement(1)
        assert certain(agreed, " . ...") == 0

    def test_goes_on_behind_what_was_committed(self) -> None:
        """After a commit, the rest of the earlier hypotheses is compared with what follows the prefix."""
        agreed = agreement(2)
        certain(agreed, " a b c")
        assert certain(agreed, " a b x c") == 2
        agreed.committed(phrase(" a b"))
        assert certain(agreed, " x c d") == 2

    def test_committed_marks_do_not_count(self) -> None:
        """Marks moved into the prefix were never compared, so nothing shifts."""
        agreed = agreement(2)
        certain(agreed, " a , b")
        agreed.committed(phrase(" a ,"))
        assert certain(agreed, " b") == 1

    def test_reset_forgets(self) -> None:
        """After a reset agreement begins anew."""
        agreed = agreement(2)
        certain(agreed, " a")
        agreed.reset()
        assert [certain(agreed, " a") for _ in range(2)] == [0, 1]

    @given(texts=st.lists(st.lists(st.sampled_from("abc."), max_size=5), min_size=1, max_size=8), n=st.integers(1, 3))
    def test_certain_words_were_said_n_times(self, texts: list[list[str]], n: int) -> None:
        """Whatever is certain begins each of the last n hypotheses."""
        agreed = agreement(n)
        for turn, text in enumerate(texts):
            words = [word(f" {piece}") for piece in text]
            keys = [each.key for each in words[: agreed.certain(words, FAR_S)] if each.key]
            last = texts[max(0, turn - n + 1) : turn + 1]
            if keys:
                assert len(last) == n
            for earlier in last:
                assert [piece for piece in earlier if piece != "."][: len(keys)] == keys


def test_policies_are_ordered() -> None:
    """Each longer delay asks for at least as much evidence as the one before."""
    policies = [POLICIES[delay] for delay in ("minimal", "low", "medium", "high")]
    assert all(a.agreement <= b.agreement for a, b in pairwise(policies))
    assert all(policy.agreement >= 1 and policy.hold_back_s >= 0 for policy in policies)
    assert all(
        (a.agreement, a.hold_back_s) != (b.agreement, b.hold_back_s) for a, b in pairwise(policies)
    )  # a setting that changes nothing is none
