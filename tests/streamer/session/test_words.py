"""Tests of streamer/session/words.py: the words of a step's result."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.session.words import (
    SpokenWord,
    leading,
    of_whole_characters,
    said_until_s,
    split_final_marks,
    spoken_words,
)
from streamer.step import StepResult
from tests.helpers.words import TOKENIZER, result, word


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


class TestSaidUntil:
    """How much of the voice a text accounts for."""

    @pytest.mark.parametrize(
        ("words", "until_s"),
        [
            ([word(" in", 1.0, 1.2), word(" this", 1.2, 1.5)], 1.5),
            ([word(" this", 1.2, 1.5), word("...", 4.0, 6.0)], 1.5),
            ([word(" this...", 1.2, 6.0)], 2.7),
            ([word("...", 4.0, 6.0)], 0.5),
            ([], 0.5),
        ],
    )
    def test_marks_and_stretched_words_account_for_nothing(self, words: list[SpokenWord], until_s: float) -> None:
        """The attention of what ends a text may lie in the words that are said next."""
        assert said_until_s(words, otherwise_s=0.5) == pytest.approx(until_s)


class TestWholeCharacters:
    """A result without parts of characters."""

    TOKENS = tuple(TOKENIZER.encode(" ab\N{HOT BEVERAGE}"))
    """One token, and two of one character."""

    def said(self, tokens: tuple[int, ...]) -> StepResult:
        """These tokens, one each tenth of a second, ended by 9.0 s."""
        times = (*(n / 10 for n in range(len(tokens))), 9.0)
        return replace(result(), tokens=tokens, logprobs=tuple(-n / 10 for n in range(len(tokens))), starts_s=times)

    def test_a_character_that_is_cut_off_ends_the_text_before_it(self) -> None:
        """The last word ends where the character begins."""
        whole = of_whole_characters(self.said(self.TOKENS[:-1]), TOKENIZER)

        assert TOKENIZER.decode(whole.tokens) == " ab"
        assert (whole.logprobs, whole.starts_s) == ((-0.0,), (0.0, 0.1))

    def test_a_character_without_its_beginning_is_left_out(self) -> None:
        """The text begins after it."""
        tokens = (*self.TOKENS[2:], *TOKENIZER.encode(" ab"))

        whole = of_whole_characters(self.said(tokens), TOKENIZER)

        assert TOKENIZER.decode(whole.tokens) == " ab"
        assert whole.starts_s == (0.1, 9.0)

    def test_a_part_of_a_character_alone_is_no_text(self) -> None:
        """No token, and the times of none."""
        whole = of_whole_characters(self.said(self.TOKENS[1:2]), TOKENIZER)

        assert (whole.tokens, whole.logprobs, whole.starts_s) == ((), (), (0.0,))

    def test_a_whole_text_is_the_result_itself(self) -> None:
        """Almost always."""
        said = self.said(self.TOKENS)

        assert of_whole_characters(said, TOKENIZER) is said


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


def test_leading_words_are_whole() -> None:
    """A word of which the last token lies beyond is left out."""
    words = [word(" chapter"), word(" thirty-one"), word(" once")]
    n = len(words[0].tokens) + len(words[1].tokens)

    assert leading(words, n) == words[:2]
    assert leading(words, n - 1) == words[:1]
    assert leading(words, 0) == []
