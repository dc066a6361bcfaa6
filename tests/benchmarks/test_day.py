"""Tests of benchmarks/day.py: minutes of its day, and that a container that grows would be found."""

from __future__ import annotations

import collections

from benchmarks.day import BOUNDS, N_SESSIONS, Hour, containers, live, over_bounds
from streamer.session.voice_activity import VoiceOptions, VoiceTracker


async def test_minutes_of_a_day_keep_every_container_within_its_bound() -> None:
    """Speech of every kind through eight sessions: turns end, and what is held stays below what is allowed."""
    hours: list[Hour] = []
    await live(2, 60, hours.append)

    assert [hour.until_s for hour in hours] == [60, 120]
    assert all(hour.rows > N_SESSIONS and hour.turns > N_SESSIONS for hour in hours)
    assert [over_bounds(hour.lengths) for hour in hours] == [[], []]
    assert "VoiceTracker._voiced" in hours[0].lengths, "the containers were not found: the test shows nothing"


def test_voice_that_is_never_forgotten_is_over_its_bound() -> None:
    """As it was while nobody paused: the fault that the day is for."""
    tracker = VoiceTracker(VoiceOptions())
    for _ in range(2000):
        tracker.push(0.9)
        tracker.push(0.0)

    assert over_bounds(containers([tracker])) == [f"VoiceTracker._voiced: 2000, bound {BOUNDS['VoiceTracker._voiced']}"]


def test_a_container_without_a_bound_is_named() -> None:
    """Whoever adds one to the service says how long it may become."""
    assert over_bounds({"Session._new": 0}) == ["Session._new: 0, bound None"]


def test_containers_are_found_inside_of_others() -> None:
    """By the attribute that holds them; of several objects the longest counts."""
    one, other = VoiceTracker(VoiceOptions()), VoiceTracker(VoiceOptions())
    one.push(0.9)

    assert containers([collections.deque([{"a": one, "b": other}])])["VoiceTracker._voiced"] == 1
