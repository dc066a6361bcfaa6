"""Tests of streamer/access/remembered.py: one thing for each caller, of a bounded number of them."""

from __future__ import annotations

import itertools

from streamer.access.remembered import Remembered


def test_the_caller_asked_for_longest_ago_is_forgotten() -> None:
    """Each keeps its own thing as long as it is asked for."""
    remembered = Remembered(itertools.count().__next__, max_callers=2)

    assert [remembered.of(caller) for caller in "abacab"] == [0, 1, 0, 2, 0, 3]
