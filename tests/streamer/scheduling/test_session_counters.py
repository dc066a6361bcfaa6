"""Tests of streamer/scheduling/session_counters.py."""

from __future__ import annotations

from streamer.protocol.events import Ack, Caption, Speech
from streamer.scheduling.session_counters import STALL_S, Tally

CAPTION = Caption(turn=0, rev=1, stable="so", partial="", start_s=0.0, end_s=1.0)
ACK = Ack(received_s=1.0, stable_s=1.0, lag_s=0.0)


def test_voice_without_text_is_a_stall() -> None:
    """It is told once, and is over with the next text."""
    tally = Tally()
    assert not tally.watch([Speech(state="started", at_s=5.0)], 5.0, speaking=True)
    assert not tally.watch([ACK], 5.0 + STALL_S, speaking=True)
    assert tally.watch([ACK], 5.1 + STALL_S, speaking=True)
    assert not tally.watch([ACK], 6.0 + STALL_S, speaking=True)
    assert tally.is_stalled
    assert not tally.watch([CAPTION], 7.0 + STALL_S, speaking=True)
    assert not tally.is_stalled


def test_silence_is_none() -> None:
    """However long nobody speaks."""
    tally = Tally()
    assert not tally.watch([], 1000.0, speaking=False)
    assert not tally.watch([ACK], 1000.0 + STALL_S, speaking=True)


def test_delays() -> None:
    """Mean and worst, over the words."""
    tally = Tally()
    assert tally.mean_commit_s == 0.0
    tally.add_word(1.0)
    tally.add_word(2.0)
    assert (tally.n_words, tally.mean_commit_s, tally.worst_commit_s) == (2, 1.5, 2.0)
