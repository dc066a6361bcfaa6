"""Tests of benchmarks/soak.py: growth of memory, delays, and promises of the protocol."""

from __future__ import annotations

import math
import random
import time

import numpy as np
import pytest

from benchmarks.soak import SETTLE_S, Report, Session


class OldReport(Report):
    """A report an hour after its start."""

    @property
    def now_s(self) -> float:
        """An hour."""
        return 3600.0


def test_growth_of_memory_leaves_the_beginning_out() -> None:
    """Memory grows to its working size first."""
    report = Report(samples=[{"at_s": 0.0, "rss_mb": 100.0}])
    assert math.isnan(report.growth())
    for at_s in (SETTLE_S, SETTLE_S + 1800, SETTLE_S + 3600):
        report.samples.append({"at_s": at_s, "rss_mb": 1000 + at_s / 1800})
    assert report.growth() == pytest.approx(2.0)


def test_delays_are_reported_for_the_first_and_the_last_tenth_of_the_time() -> None:
    """However few fall into each; the 95th percentile is never below the median."""
    report = OldReport(delays=[(10.0, 0.5), (20.0, 0.7), (1800.0, 9.0), (3500.0, 1.0)])
    assert report.tenth(last=False) == {"n": 2, "p50": 0.6, "p95": 0.69}
    assert report.tenth(last=True) == {"n": 1, "p50": 1.0, "p95": 1.0}


def test_a_session_notices_broken_promises() -> None:
    """Stable text that is taken back, and audio that was not received; a refusal is none, and is kept with its wait."""
    report = Report()
    session = Session(np.zeros(16_000, np.int16), report, random.Random(0))
    session.receive({"type": "caption", "turn": 0, "stable": "One two", "words": []})
    session.receive({"type": "caption", "turn": 0, "stable": "One, two three", "words": []})
    assert report.broken == []
    session.receive({"type": "turn_end", "turn": 0, "text": "One four"})
    session.receive({"type": "bye", "audio_s": 0.5})
    session.receive({"type": "error", "code": "overloaded", "retry_after_s": 2.0})
    assert len(report.broken) == 2
    assert session.retry_s == 2.0
    assert len(report.refusals) == 1


def test_the_delay_of_a_word_counts_from_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also of those that the end of a turn makes stable, and of which an ack has told before; of each word once."""
    monkeypatch.setattr(time, "monotonic", lambda: 100.0)
    report = Report()
    session = Session(np.zeros(16_000, np.int16), report, random.Random(0))
    session._sent = {5: 97.0, 9: 99.0}
    first, last = ({"end_s": end_s, "stable": True} for end_s in (0.58, 0.92))

    session.receive({"type": "caption", "turn": 0, "stable": "one", "words": [first, {**last, "stable": False}]})
    session.receive({"type": "ack", "received_s": 1.0, "stable_s": 0.92, "lag_s": 0.0})
    session.receive({"type": "turn_end", "turn": 0, "text": "one two", "words": [first, last]})

    assert [delay for _, delay in report.delays] == pytest.approx([3.02, 1.08])
