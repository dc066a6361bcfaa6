"""Tests of streamer/scheduling/session_counters.py."""

from __future__ import annotations

from streamer.protocol.events import Ack, Caption, Speech
from streamer.scheduling.session_counters import STALL_S, SessionCounters

CAPTION = Caption(turn=0, rev=1, stable="so", partial="", start_s=0.0, end_s=1.0)
ACK = Ack(received_s=1.0, stable_s=1.0, lag_s=0.0)


def test_voice_without_text_is_a_stall() -> None:
    """It is told once, and is over with the next text."""
    counters = SessionCounters()
    assert not counters.watch([Speech(state="started", at_s=5.0)], 5.0, speaking=True)
    assert not counters.watch([ACK], 5.0 + STALL_S, speaking=True)
    assert counters.watch([ACK], 5.1 + STALL_S, speaking=True)
    assert not counters.watch([ACK], 6.0 + STALL_S, speaking=True)
    assert counters.is_stalled
    assert not counters.watch([CAPTION], 7.0 + STALL_S, speaking=True)
    assert not counters.is_stalled


def test_silence_is_none() -> None:
    """However long nobody speaks."""
    counters = SessionCounters()
    assert not counters.watch([], 1000.0, speaking=False)
    assert not counters.watch([ACK], 1000.0 + STALL_S, speaking=True)


def test_delays() -> None:
    """Mean and worst, over the words."""
    counters = SessionCounters()
    assert counters.mean_commit_s == 0.0
    counters.add_word(1.0)
    counters.add_word(2.0)
    assert (counters.n_words, counters.mean_commit_s, counters.worst_commit_s) == (2, 1.5, 2.0)
