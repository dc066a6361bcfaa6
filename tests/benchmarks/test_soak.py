"""Tests of benchmarks/soak.py: what is made of what was seen."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest

from benchmarks.soak import SETTLE_S, Report, Session


class OldReport(Report):
    """One whose clock stands at an hour."""

    @property
    def now_s(self) -> float:
        """An hour."""
        return 3600.0


def test_slope_of_the_memory_leaves_the_beginning_out() -> None:
    """It grows to its working size first."""
    report = Report(samples=[{"at_s": 0.0, "rss_mb": 100.0}])
    assert math.isnan(report.slope())
    for at_s in (SETTLE_S, SETTLE_S + 1800, SETTLE_S + 3600):
        report.samples.append({"at_s": at_s, "rss_mb": 1000 + at_s / 1800})
    assert report.slope() == pytest.approx(2.0)


def test_delays_are_reported_for_the_first_and_the_last_tenth_of_the_time() -> None:
    """However few fall into each; the 95th percentile is never below the median."""
    report = OldReport(delays=[(10.0, 0.5), (20.0, 0.7), (1800.0, 9.0), (3500.0, 1.0)])
    assert report.tenth(last=False) == {"n": 2, "p50": 0.6, "p95": 0.69}
    assert report.tenth(last=True) == {"n": 1, "p50": 1.0, "p95": 1.0}


def test_a_session_notices_what_is_taken_back_and_what_was_not_heard() -> None:
    """Stable text may grow; a refusal is kept with the wait that it asks for."""
    report = Report()
    session = Session(np.zeros(16_000, np.int16), report, random.Random(0))
    session._receive({"type": "caption", "turn": 0, "stable": "One two", "words": []})
    session._receive({"type": "caption", "turn": 0, "stable": "One, two three", "words": []})
    assert report.broken == []
    session._receive({"type": "turn_end", "turn": 0, "text": "One four"})
    session._receive({"type": "bye", "audio_s": 0.5})
    session._receive({"type": "error", "code": "overloaded", "retry_after_s": 2.0})
    assert len(report.broken) == 2
    assert session.retry_s == 2.0
    assert len(report.refusals) == 1
