"""Tests of streamer/remote/scaling.py: the number of engines follows the load between two bounds."""

from __future__ import annotations

import pytest

from streamer.remote.scaling import GROWS_AFTER_S, GROWS_AT, SHRINKS_AFTER_S, SHRINKS_AT, Scaling


def numbers(scaling: Scaling, shares_of: dict[int, float], seconds: int) -> list[int]:
    """Engines after each second, where every engine of n has the share `shares_of[n]`; they start at once."""
    n, found = min(shares_of), []
    for second in range(seconds):
        n = scaling.wanted(n, [shares_of[n]] * n, float(second))
        found.append(n)
    return found


def test_a_busy_cluster_grows_one_by_one_up_to_the_most() -> None:
    """Each time after ten seconds of load."""
    found = numbers(Scaling(1, 3), dict.fromkeys((1, 2, 3), GROWS_AT + 0.1), 100)

    assert [found.index(n) for n in (2, 3)] == pytest.approx([GROWS_AFTER_S, 2 * GROWS_AFTER_S], abs=2)
    assert found[-1] == 3


def test_a_peak_that_passes_changes_nothing() -> None:
    """Neither a pause."""
    scaling = Scaling(1, 3)
    for second in range(200):
        busy = second % int(GROWS_AFTER_S) < GROWS_AFTER_S / 2
        assert scaling.wanted(2, [GROWS_AT + 0.2 if busy else 0.0] * 2, float(second)) == 2


def test_an_idle_cluster_shrinks_down_to_the_least() -> None:
    """After five minutes each."""
    scaling, n, at = Scaling(1, 3), 3, {}
    for second in range(int(3 * SHRINKS_AFTER_S)):
        before, n = n, scaling.wanted(n, [0.05] * n, float(second))
        if n != before:
            at[n] = second

    assert at == pytest.approx({2: SHRINKS_AFTER_S, 1: 2 * SHRINKS_AFTER_S}, abs=3)


def test_what_the_rest_could_not_carry_does_not_shrink() -> None:
    """So the number does not swing."""
    share = SHRINKS_AT * 2 / 3 + 0.01  # of three engines: each of two would have more than the threshold
    scaling = Scaling(1, 3)
    for second in range(int(2 * SHRINKS_AFTER_S)):
        assert scaling.wanted(3, [share] * 3, float(second)) == 3


def test_nothing_is_decided_while_an_engine_starts_or_is_away() -> None:
    """The others have its load meanwhile."""
    scaling = Scaling(1, 4)
    for second in range(int(2 * SHRINKS_AFTER_S)):
        assert scaling.wanted(3, [0.9, 0.9], float(second)) == 3


def test_a_fixed_number_stays() -> None:
    """Where least and most are one."""
    scaling = Scaling(2, 0)
    for second in range(int(2 * SHRINKS_AFTER_S)):
        assert scaling.wanted(2, [0.9 if second < 100 else 0.0] * 2, float(second)) == 2
