"""Tests of streamer/session/early_ends.py: texts that the decoder ended although voice follows."""

from __future__ import annotations

from dataclasses import replace

import pytest

from streamer.session.early_ends import EARLY_END_S, MAX_RETRIES, EarlyEnds, ends_early
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


def test_the_rest_is_asked_for_once_per_text() -> None:
    """The end is forbidden after the words; a decoder that repeats them is not asked again."""
    ends, text = EarlyEnds(), text_of(WORDS)

    ends.judge(result(WORDS), WORDS, text, voiced_after_s=2.0, edge_frame=300)
    assert ends.awaits_rest
    assert text.no_eot_at == len(text.draft)

    ends.judge(result(WORDS), WORDS, text, voiced_after_s=2.5, edge_frame=350)
    assert not ends.awaits_rest


def test_repeats_on_the_same_audio_are_limited() -> None:
    """Even if each repeat finds another text; new audio starts the count again."""
    ends = EarlyEnds()
    awaited = []
    for n in range(MAX_RETRIES + 1):
        words = phrase(" so" * (n + 1))
        ends.judge(result(words), words, text_of(words), voiced_after_s=2.0, edge_frame=300)
        awaited.append(ends.awaits_rest)
    assert awaited == [True] * MAX_RETRIES + [False]

    ends.judge(result(WORDS), WORDS, text_of(WORDS), voiced_after_s=2.0, edge_frame=301)
    assert ends.awaits_rest


def test_a_new_window_expects_nothing() -> None:
    """The rest belonged to the window that was left."""
    ends = EarlyEnds()
    ends.judge(result(WORDS), WORDS, text_of(WORDS), voiced_after_s=2.0, edge_frame=300)
    ends.reset()

    assert not ends.awaits_rest
