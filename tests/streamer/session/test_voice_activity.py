"""Tests of streamer/session/voice_activity.py: probabilities in, speech out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.session.voice_activity import VOICE_FRAME_S, VoiceOptions, VoiceTracker

OPTIONS = VoiceOptions(enter=0.5, stay=0.35, min_speech_s=0.096)


def heard(*probabilities: float, start_s: float = 0.0) -> VoiceTracker:
    """A tracker that has judged these frames."""
    tracker = VoiceTracker(OPTIONS, start_s)
    for probability in probabilities:
        tracker.push(probability)
    return tracker


def test_speech_begins_after_its_shortest_length() -> None:
    """The third voiced frame begins speech, which started with the first."""
    tracker = VoiceTracker(OPTIONS, 10.0)
    assert [tracker.push(p) for p in (0.0, 0.9, 0.9, 0.9, 0.9)] == [False, False, False, True, False]
    assert tracker.speaking
    assert tracker.started_s == pytest.approx(10.0 + VOICE_FRAME_S)
    assert tracker.last_voice_s == pytest.approx(10.0 + 5 * VOICE_FRAME_S)
    assert tracker.now_s == tracker.last_voice_s


def test_click_is_no_speech() -> None:
    """Voice shorter than the shortest speech never begins it, however often it comes."""
    assert not heard(*[0.0, 0.99, 0.99, 0.0] * 20).speaking


def test_hysteresis() -> None:
    """What is too weak to begin speech is enough to keep it going, and only then."""
    assert not heard(*[0.4] * 20).speaking
    kept = heard(0.6, 0.4, 0.4, 0.4)
    assert kept.speaking
    assert kept.silence_s == 0.0
    assert heard(0.6, 0.6, 0.6, 0.3, 0.4, 0.4).silence_s == pytest.approx(3 * VOICE_FRAME_S)


def test_thresholds_are_inclusive() -> None:
    """Exactly the threshold counts as voice."""
    tracker = heard(0.5, 0.35, 0.35)
    assert tracker.speaking
    assert tracker.silence_s == 0.0


def test_silence_grows_until_stopped_or_broken() -> None:
    """Speech stays on through silence; how much of it ends a turn is not decided here."""
    tracker = heard(*[0.9] * 3, *[0.0] * 100)
    assert tracker.speaking
    assert tracker.silence_s == pytest.approx(100 * VOICE_FRAME_S)
    tracker.push(0.9)
    assert tracker.silence_s == 0.0
    tracker.stop()
    assert not tracker.speaking


def test_voice_that_goes_on_after_a_stop_begins_again_at_once() -> None:
    """A turn ended in mid-voice is followed by a new one with the next voiced frame, dated to the voice's start."""
    tracker = heard(*[0.9] * 10)
    tracker.stop()
    assert tracker.push(0.9)
    assert tracker.started_s == pytest.approx(0.0)
    assert tracker.last_voice_s == pytest.approx(11 * VOICE_FRAME_S)


def test_a_stretch_without_the_silence_around_it() -> None:
    """It reaches from the first voice that touches it to the end of the last."""
    tracker = heard(*[0.9] * 10, *[0.0] * 10, *[0.9] * 10)
    assert tracker.trimmed(0.1, 0.5) == pytest.approx((0.1, 10 * VOICE_FRAME_S))
    assert tracker.trimmed(0.1, 0.2) == pytest.approx((0.1, 0.2))
    assert tracker.trimmed(0.35, 0.6) == pytest.approx((0.35, 0.6))  # nothing voiced there
    assert tracker.trimmed(0.4, 0.9) == pytest.approx((20 * VOICE_FRAME_S, 0.9))
    assert tracker.trimmed(0.1, 5.0) == pytest.approx((0.1, 30 * VOICE_FRAME_S))
    assert VoiceTracker(OPTIONS).trimmed(1.0, 2.0) == (1.0, 2.0)


def test_clicks_count_as_voice_in_stretches() -> None:
    """Voice too short to begin speech is still known to be there."""
    tracker = heard(0.0, 0.9, 0.0)
    assert tracker.voiced_s(0.0, 1.0) == pytest.approx(VOICE_FRAME_S)


def test_forgets_what_ended_before() -> None:
    """Old stretches go, a stretch that reaches past the instant stays whole."""
    tracker = heard(*[0.9] * 10, *[0.0] * 10, *[0.9] * 10)
    tracker.forget(15 * VOICE_FRAME_S)
    assert tracker.voiced_s(0.0, 10.0) == pytest.approx(10 * VOICE_FRAME_S)
    tracker.forget(25 * VOICE_FRAME_S)
    assert tracker.voiced_s(0.0, 10.0) == pytest.approx(10 * VOICE_FRAME_S)
    tracker.forget(31 * VOICE_FRAME_S)
    assert tracker.voiced_s(0.0, 10.0) == 0.0


@given(voiced=st.lists(st.booleans(), max_size=60), begin=st.integers(0, 60), length=st.integers(0, 60))
def test_voiced_time_is_that_of_the_frames(voiced: list[bool], begin: int, length: int) -> None:
    """Voice between two instants is counted frame by frame."""
    tracker = heard(*[0.9 if v else 0.0 for v in voiced])
    expected = sum(voiced[begin : begin + length]) * VOICE_FRAME_S
    assert tracker.voiced_s(begin * VOICE_FRAME_S, (begin + length) * VOICE_FRAME_S) == pytest.approx(expected)


@given(voiced=st.lists(st.booleans(), max_size=80))
def test_speech_is_three_voiced_frames_in_a_row(voiced: list[bool]) -> None:
    """Speech begins exactly once, with the first run that is long enough."""
    tracker = VoiceTracker(OPTIONS)
    begun = [i for i, v in enumerate(voiced) if tracker.push(0.9 if v else 0.0)]
    runs = [i for i in range(2, len(voiced)) if all(voiced[i - 2 : i + 1])]
    assert begun == runs[:1]


@given(
    voiced=st.lists(st.booleans(), max_size=80),
    begin=st.floats(-1, 4),
    length=st.floats(-1, 4),
    forgotten=st.floats(0, 3),
)
def test_forgetting_changes_no_answer_about_later_times(
    voiced: list[bool], begin: float, length: float, forgotten: float
) -> None:
    """What was forgotten matters only to questions about the time before."""
    tracker, reference = (heard(*[0.9 if v else 0.0 for v in voiced]) for _ in range(2))
    tracker.forget(forgotten)
    start_s = max(begin, forgotten)

    assert tracker.voiced_s(start_s, start_s + length) == reference.voiced_s(start_s, start_s + length)
    assert tracker.trimmed(start_s, start_s + length) == reference.trimmed(start_s, start_s + length)


def test_voice_that_alternates_for_an_hour_leaves_as_many_spans_as_are_asked_about() -> None:
    """Each voiced frame is a span of its own, the most there can be; held are those that did not end before."""
    tracker = VoiceTracker(OPTIONS)
    most = 0
    for _ in range(round(3600 / (2 * VOICE_FRAME_S))):
        tracker.push(0.9)
        tracker.push(0.0)
        tracker.forget(tracker.now_s - 30.0)
        most = max(most, tracker.n_spans)

    assert most <= 30.0 / (2 * VOICE_FRAME_S) + 1


def test_pauses_part_stretches() -> None:
    """A stretch begins with the first voice and after each pause of 0.3 s; shorter pauses are inside it."""
    tracker = VoiceTracker(VoiceOptions())
    for voiced in [*[False] * 5, *[True] * 10, *[False] * 9, *[True] * 10, *[False] * 10, *[True] * 4]:
        tracker.push(0.9 if voiced else 0.0)
    assert tracker.stretches(0.0, tracker.now_s) == pytest.approx([5 * 0.032, 44 * 0.032])
    assert tracker.stretches(0.32, tracker.now_s) == pytest.approx([0.32, 44 * 0.032])
    assert tracker.stretches(0.0, 0.1) == []
