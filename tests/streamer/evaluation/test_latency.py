"""Tests of streamer/evaluation/latency.py."""

from __future__ import annotations

import pytest

from streamer.evaluation.latency import LatencyTracker
from streamer.protocol.events import Caption, Speech, TurnEnd, TurnRevised, Word


def word(text: str, end_s: float, *, stable: bool = False) -> Word:
    """A word of 0.2 s."""
    return Word(text=text, start_s=end_s - 0.2, end_s=end_s, confidence=0.9, stable=stable)


def caption(*words: Word, turn: int = 0, rev: int = 1) -> Caption:
    """A caption of these words."""
    return Caption(turn=turn, rev=rev, stable="", partial="", start_s=0.0, end_s=1.0, words=words)


def turn_end(*words: Word, turn: int = 0) -> TurnEnd:
    """A turn of these words."""
    text = " ".join(each.text for each in words)
    return TurnEnd(turn=turn, text=text, start_s=0.0, end_s=1.0, language="en", reason="silence", words=words)


def test_a_word_is_late_from_its_end_to_the_events_that_show_it_and_make_it_stable() -> None:
    """Once each."""
    tracker = LatencyTracker(3.0)
    tracker.see(Speech(state="started", at_s=0.0), 0.1)
    tracker.see(caption(word("so", 0.5)), 0.8)
    tracker.see(caption(word("so", 0.5, stable=True), word("it", 0.9), rev=2), 1.2)
    tracker.see(turn_end(word("so", 0.5, stable=True), word("it", 0.9, stable=True)), 2.0)
    heard = tracker.transcript

    assert heard.first_sight_s == pytest.approx([0.3, 0.3])
    assert heard.commit_s == pytest.approx([0.7, 1.1])
    assert (heard.duration_s, heard.n_rewritten, heard.text) == (3.0, 0, "so it")


def test_words_that_change_or_go_are_counted() -> None:
    """The reader saw something else before."""
    tracker = LatencyTracker(3.0)
    tracker.see(caption(word("so", 0.5), word("sit", 0.9), word("is", 1.1)), 1.2)
    tracker.see(caption(word("so", 0.5), word("it", 0.9), rev=2), 1.5)

    assert tracker.transcript.n_rewritten == 2


def test_turns_are_joined_as_they_were_live_and_as_they_were_revised() -> None:
    """A turn without text adds nothing."""
    tracker = LatencyTracker(3.0)
    tracker.see(turn_end(word("so", 0.5, stable=True)), 1.0)
    tracker.see(turn_end(turn=1), 1.5)
    tracker.see(turn_end(word("it", 1.9, stable=True), turn=2), 2.0)
    tracker.see(TurnRevised(turn=0, text="sew", language="en", reason="text", model="base"), 2.5)

    assert tracker.transcript.text == "so it"
    assert tracker.transcript.revised_text == "sew it"
