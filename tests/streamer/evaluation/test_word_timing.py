"""Tests of streamer/evaluation/word_timing.py: times of words and utterances against a reference."""

from __future__ import annotations

import pytest

from streamer.evaluation.word_timing import Segment, TimedWord, utterance_errors, utterances, word_start_errors
from streamer.protocol.events import TurnEnd, Word


def spoken(*words: tuple[str, float]) -> list[TimedWord]:
    """Words that begin at these times."""
    return [TimedWord(word=text, start_s=at_s, end_s=at_s + 0.2) for text, at_s in words]


def heard(*words: tuple[str, float]) -> list[Word]:
    """The same, as heard."""
    return [Word(text=text, start_s=at_s, end_s=at_s + 0.2, confidence=0.5) for text, at_s in words]


def turn(start_s: float, end_s: float) -> TurnEnd:
    """A turn with these times."""
    return TurnEnd(turn=0, text="", start_s=start_s, end_s=end_s, language="en", reason="silence")


def plain(text: str) -> str:
    """Letters alone."""
    return "".join(c for c in text.lower() if c.isalpha())


def test_only_words_heard_right_have_a_time_error() -> None:
    """A word heard otherwise, one lost and one too many are left out; the rest keeps its order."""
    errors = word_start_errors(
        spoken(("so", 1.0), ("the", 1.5), ("first", 2.0), ("thing", 2.5)),
        heard(("So", 1.1), ("uh", 1.3), ("thirst", 2.0), ("thing.", 2.4)),
        plain,
    )

    assert errors == pytest.approx([0.1, -0.1])


def test_short_pauses_join_utterances() -> None:
    """Segments closer than a turn's pause are one utterance."""
    joined = utterances([Segment(start=0, end=1), Segment(start=1.2, end=2), Segment(start=3, end=4)], 0.5)

    assert joined == [Segment(start=0, end=2), Segment(start=3, end=4)]


def test_silence_that_was_put_before_is_no_delay() -> None:
    """Words and utterances are looked for that much later."""
    errors = word_start_errors(spoken(("so", 1.0)), heard(("so", 1.6)), plain, lead_in_s=0.5)
    assert errors == pytest.approx([0.1])
    assert utterances([Segment(start=1.0, end=2.0)], 0.3, lead_in_s=0.5) == [Segment(start=1.5, end=2.5)]


def test_the_nearest_turn_counts() -> None:
    """Each utterance is compared with the start and the end nearest to its own."""
    starts, ends = utterance_errors(
        [Segment(start=0, end=2), Segment(start=3, end=4)], [turn(0.1, 1.0), turn(1.1, 1.9), turn(3.2, 4.3)]
    )

    assert starts == pytest.approx([0.1, 0.2])
    assert ends == pytest.approx([-0.1, 0.3])


def test_nothing_heard_has_no_times() -> None:
    """Lost words are no time errors."""
    assert utterance_errors([Segment(start=0, end=2)], []) == ([], [])
    assert word_start_errors(spoken(("so", 1.0)), [], plain) == []
