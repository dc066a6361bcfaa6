"""Tests of streamer/session/early_ends.py: texts that the decoder ended although voice follows."""

from __future__ import annotations

from dataclasses import replace

import pytest

from streamer.session.early_ends import EARLY_END_S, MAX_RETRIES, EarlyEnds, Hypothesis, ends_early
from streamer.session.window_text import WindowText
from streamer.session.words import SpokenWord
from tests.helpers.words import TOKENIZER, phrase, result

WORDS = phrase(" so it goes")


def text_of(words: list[SpokenWord]) -> WindowText:
    """A window with these words as its tail."""
    text = WindowText(TOKENIZER)
    text.set_tail(words)
    return text


@pytest.mark.parametrize(
    ("said", "accepted", "ended", "voiced_after_s", "early"),
    [
        (WORDS, WORDS, True, EARLY_END_S, True),
        (WORDS, WORDS, True, EARLY_END_S - 0.1, False),
        (WORDS, WORDS, False, EARLY_END_S, False),
        ([], [], True, EARLY_END_S, True),
        (WORDS, [], True, EARLY_END_S, False),
    ],
    ids=["voice follows", "little voice follows", "stopped by a bound", "nothing said", "no speech"],
)
def test_early_ends(
    said: list[SpokenWord], accepted: list[SpokenWord], ended: bool, voiced_after_s: float, early: bool
) -> None:
    """The decoder ended the text itself, much voice follows, and its words were not dropped as no speech."""
    assert ends_early(replace(result(said), ended=ended), accepted, voiced_after_s) is early


def judge(
    ends: EarlyEnds, words: list[SpokenWord], text: WindowText, *, edge_frame: int = 300, is_cut: bool = False
) -> None:
    """A step heard these words, and 2 s of voice follow."""
    ends.judge(result(words), Hypothesis(words=words, is_cut=is_cut, edge_frame=edge_frame), text, 2.0)


def test_the_rest_is_asked_for_once_per_text() -> None:
    """The end is forbidden after the words; a decoder that repeats them is not asked again."""
    ends, text = EarlyEnds(), text_of(WORDS)

    judge(ends, WORDS, text)
    assert ends.awaits_rest
    assert text.no_eot_at == len(text.draft)

    judge(ends, WORDS, text, edge_frame=350)
    assert not ends.awaits_rest


def test_repeats_on_the_same_audio_are_limited() -> None:
    """Even if each repeat finds another text; new audio starts the count again."""
    ends = EarlyEnds()
    awaited = []
    for n in range(MAX_RETRIES + 1):
        words = phrase(" so" * (n + 1))
        judge(ends, words, text_of(words))
        awaited.append(ends.awaits_rest)
    assert awaited == [True] * MAX_RETRIES + [False]

    judge(ends, WORDS, text_of(WORDS), edge_frame=301)
    assert ends.awaits_rest


def test_a_new_window_expects_nothing() -> None:
    """The rest belonged to the window that was left."""
    ends = EarlyEnds()
    judge(ends, WORDS, text_of(WORDS))
    ends.reset()

    assert not ends.awaits_rest


def test_a_cut_text_is_asked_for_its_rest_as_long_as_it_grows() -> None:
    """However often; one that does not grow on the same audio is stuck, and its end is not forbidden."""
    ends = EarlyEnds()
    for n in range(1, 3 * MAX_RETRIES):
        words = phrase(" so it goes" * n)
        judge(ends, words, text_of(words), is_cut=True)
        assert (ends.awaits_rest, ends.is_stuck) == (True, False)

    text = text_of(words)
    judge(ends, words, text, is_cut=True)
    assert (ends.awaits_rest, ends.is_stuck) == (False, True)
    assert text.no_eot_at is None


def test_a_cut_text_may_be_shorter_on_other_audio_or_after_the_window_moved() -> None:
    """Only where nothing else changed does it show that there is no more room."""
    ends = EarlyEnds()
    judge(ends, WORDS, text_of(WORDS), is_cut=True)
    judge(ends, WORDS[:2], text_of(WORDS[:2]), is_cut=True, edge_frame=330)
    assert ends.awaits_rest
    ends.moved()
    judge(ends, WORDS[:1], text_of(WORDS[:1]), is_cut=True, edge_frame=330)
    assert ends.awaits_rest
