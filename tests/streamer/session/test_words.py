"""Tests of streamer/session/words.py: words of a step's result, and which of them are certain."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.session.commit_policy import HALF, HALF_HOLD_BACK_S, POLICIES, RUNS_INTO_S, Agreement, CommitPolicy
from streamer.session.plausibility import n_believed, worth_showing
from streamer.session.words import SpokenWord, leading, split_final_marks, spoken_words
from streamer.step import StepResult
from tests.helpers.words import TOKENIZER, phrase, result, word

FAR_S = 1e6
"""An edge so late that nothing is held back."""


def agreement(n: int, hold_back_s: float = 0.0) -> Agreement:
    """Agreement of n hypotheses."""
    return Agreement(CommitPolicy(agreement=n, hold_back_s=hold_back_s))


def certain(agreed: Agreement, text: str, edge_s: float = FAR_S) -> int:
    """How many words of a text are certain now."""
    return agreed.certain(phrase(text), edge_s)


class TestKey:
    """What must be equal for two words to agree."""

    @pytest.mark.parametrize(
        ("one", "other"),
        [(" Hello", " hello,"), (" don't", " DON’T"), (" 3.5", " 35"), (" Straße", " STRASSE"), (" —", " ...")],  # noqa: RUF001
    )
    def test_case_and_marks_do_not_count(self, one: str, other: str) -> None:
        """Two spellings of one word have the same key."""
        assert word(one).key == word(other).key

    def test_accents_and_symbols_count(self) -> None:
        """Vowel signs of Indic scripts are part of the word, and so are currency signs."""
        assert word(" कि").key != word(" कु").key
        assert word(" $5").key != word(" 5").key

    @pytest.mark.parametrize("marks", [".", " -", " ...", "?!", "»"])
    def test_marks_alone_have_none(self, marks: str) -> None:
        """Punctuation has nothing to agree on."""
        assert word(marks).key == ""


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


class TestSpokenWords:
    """From tokens with times to words in stream time."""

    def test_times_text_and_confidence(self) -> None:
        """Words carry stream time, text as decoded, and the geometric mean of their tokens."""
        tokens = TOKENIZER.encode(" Hippopotamus, yes.")
        logprobs = tuple(-0.1 * i for i in range(len(tokens)))
        starts = tuple(0.5 + 0.1 * i for i in range(len(tokens) + 1))
        said = StepResult(
            tokens=tuple(tokens), logprobs=logprobs, starts_s=starts, n_verified=0, ended=True,
            no_speech_prob=0.0, language="en",
        )  # fmt: skip
        first, second = spoken_words(said, TOKENIZER, 20.0, lambda *span: span)
        n = len(first.tokens)
        assert [first.text, second.text] == [" Hippopotamus,", " yes."]
        assert (first.start_s, first.end_s) == pytest.approx((20.5, 20.0 + starts[n]))
        assert (second.start_s, second.end_s) == pytest.approx((20.0 + starts[n], 20.0 + starts[-1]))
        assert first.confidence == pytest.approx(math.exp(sum(logprobs[:n]) / n))

    def test_word_does_not_last_into_the_pause(self) -> None:
        """The end of a word is the end of the voice in it."""
        said = result([word(" yes", 1.0, 4.0)])
        [yes] = spoken_words(said, TOKENIZER, 10.0, lambda start_s, _: (start_s, 11.6))
        assert (yes.start_s, yes.end_s) == (11.0, 11.6)

    def test_end_never_precedes_the_start(self) -> None:
        """Voice that ended before the word leaves it empty, not reversed."""
        [yes] = spoken_words(result([word(" yes", 1.0, 2.0)]), TOKENIZER, 0.0, lambda start_s, _: (start_s, 0.5))
        assert (yes.start_s, yes.end_s) == (1.0, 1.0)

    def test_late_attention_is_told_as_when_it_was_said(self) -> None:
        """By the lag earlier, but neither before the window nor outside the voice."""
        said = result([word(" oh", 0.05, 0.5), word(" yes", 0.5, 2.0)])
        oh, yes = spoken_words(said, TOKENIZER, 10.0, lambda a, b: (max(a, 10.45), min(b, 11.8)), lag_s=0.1)
        assert (oh.start_s, oh.end_s, oh.said_s) == (10.45, 10.5, (10.45, 10.45))
        assert (yes.start_s, yes.end_s) == (10.5, 11.8)
        assert yes.said_s == pytest.approx((10.45, 11.8))
        [first] = spoken_words(result([word(" oh", 0.05, 0.5)]), TOKENIZER, 10.0, lambda *span: span, lag_s=0.1)
        assert first.said_s == pytest.approx((10.0, 10.4))

    def test_nothing_said(self) -> None:
        """No tokens, no words."""
        assert spoken_words(result(), TOKENIZER, 0.0, lambda *span: span) == []

    @given(text=st.text(alphabet="ab .,-'é好", max_size=30))
    def test_no_token_is_lost(self, text: str) -> None:
        """The tokens of the words are the tokens of the result, in order."""
        tokens = tuple(TOKENIZER.encode(text))
        said = result([SpokenWord(tokens=tokens, text=text, start_s=0.0, end_s=3.0, said_s=(0.0, 3.0), confidence=1.0)])
        words = spoken_words(said, TOKENIZER, 0.0, lambda *span: span)
        assert tuple(token for each in words for token in each.tokens) == tokens
        assert all(a.end_s <= b.start_s + 1e-9 for a, b in pairwise(words))


class TestSplitFinalMarks:
    """The punctuation at a word's end is set apart."""

    @pytest.mark.parametrize(
        ("text", "parts"),
        [
            (" end.", [" end", "."]),
            (" end?!", [" end", "?!"]),
            (" end...", [" end", "..."]),
            (' end."', [" end", '."']),
        ],
    )
    def test_marks_apart(self, text: str, parts: list[str]) -> None:
        """The word keeps its times; the marks begin where it ends."""
        spoken = word(text, 1.0, 1.5, confidence=0.7)
        split = split_final_marks(spoken, TOKENIZER)
        assert [part.text for part in split] == parts
        assert tuple(token for part in split for token in part.tokens) == spoken.tokens
        assert [(part.start_s, part.end_s) for part in split] == [(1.0, 1.5), (1.5, 1.5)]

    @pytest.mark.parametrize("text", [" end", " 3.5", " don't", ".", "...", " -"])
    def test_nothing_to_set_apart(self, text: str) -> None:
        """Words without marks at their end, and marks without a word, stay whole."""
        spoken = word(text)
        assert split_final_marks(spoken, TOKENIZER) == [spoken]


class TestBelief:
    """How much of a result is taken for speech."""

    def test_likely_text_is_speech(self) -> None:
        """All of it, whatever else the network thinks of the window."""
        said = result(phrase(" so it goes"), no_speech_prob=0.9)
        assert n_believed(said, None) == (len(said.tokens), False)

    def test_unlikely_text_where_nobody_speaks_is_none(self) -> None:
        """Both must be: unlikely text alone may be a mumble."""
        assert n_believed(result(phrase(" thank you"), logprob=-1.5, no_speech_prob=0.7), None) == (0, False)
        mumbled = result(phrase(" thank you"), logprob=-1.5, no_speech_prob=0.5)
        assert n_believed(mumbled, None) == (len(mumbled.tokens), False)

    def test_circles_end_after_their_first_round(self) -> None:
        """The caller is told, so that it can forget what led there."""
        once = phrase(" and so on")
        said = result([*phrase(" well"), *once * 3])
        assert n_believed(said, None) == (len(said.tokens) - 2 * sum(len(each.tokens) for each in once), True)

    def test_what_was_said_only_to_go_on_must_be_likely(self) -> None:
        """Behind the place where the text was not allowed to end."""
        said = result(phrase(" chapter one the sea"), logprob=-1.5)
        assert n_believed(said, 2) == (2, False)
        assert n_believed(result(phrase(" chapter one the sea")), 2)[0] == len(said.tokens)


def test_leading_words_are_whole() -> None:
    """A word of which the last token lies beyond is left out."""
    words = [word(" chapter"), word(" thirty-one"), word(" once")]
    n = len(words[0].tokens) + len(words[1].tokens)

    assert leading(words, n) == words[:2]
    assert leading(words, n - 1) == words[:1]
    assert leading(words, 0) == []


def test_doubtful_words_at_the_edge_are_not_shown() -> None:
    """Only those at the end, near the newest sound, and in doubt; they count as heard all the same."""
    so, it, goes = word(" so", 0.0, 0.5, 0.3), word(" it", 0.5, 1.0, 0.9), word(" goes", 1.0, 1.5, 0.3)

    assert worth_showing([so, it, goes], edge_s=1.6) == [so, it]
    assert worth_showing([so, it, goes], edge_s=1.8) == [so, it, goes]
    assert worth_showing([so, it, word(" goes", 1.0, 1.5, 0.8)], edge_s=1.6)[-1].text == " goes"
    assert worth_showing([goes], edge_s=1.6) == []
