"""Tests of streamer/library/transcript.py."""

from __future__ import annotations

import pytest

from streamer.library.transcript import segments_of
from tests.helpers.words import TOKENIZER, phrase, result


def test_a_window_is_cut_into_sentences_at_times_of_the_recording() -> None:
    """The texts of the words are the text of their sentence; what ends no sentence is the last one."""
    found = list(segments_of(result(phrase(" So it is. And then")), TOKENIZER, start_s=30.0, end_s=60.0))

    assert [segment.text for segment in found] == ["So it is.", "And then"]
    assert ["".join(word.text for word in segment.words) for segment in found] == [" So it is.", " And then"]
    assert [(segment.start_s, segment.end_s) for segment in found] == [
        pytest.approx((30.0, 31.2)),
        pytest.approx((31.2, 32.0)),
    ]
    assert all(segment.language == "en" for segment in found)


def test_no_word_ends_after_the_audio() -> None:
    """The attention may lie in the silence that fills the window."""
    [segment] = segments_of(result(phrase(" So it is")), TOKENIZER, start_s=0.0, end_s=0.9)

    assert segment.end_s == 0.9
    assert all(word.start_s <= word.end_s <= 0.9 for word in segment.words)


def test_the_confidence_of_a_sentence_is_the_mean_of_its_words() -> None:
    """And the probability of no speech that of its window."""
    [segment] = segments_of(result(phrase(" So it is"), no_speech_prob=0.2), TOKENIZER, start_s=0.0, end_s=9.0)

    assert segment.confidence == pytest.approx(0.5)
    assert [word.confidence for word in segment.words] == pytest.approx([0.5] * 3)
    assert segment.no_speech_prob == 0.2


def test_nothing_said_is_no_sentence() -> None:
    """Silence has no segments."""
    assert list(segments_of(result(), TOKENIZER, start_s=0.0, end_s=9.0)) == []
