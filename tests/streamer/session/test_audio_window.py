"""Tests of streamer/session/audio_window.py."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from streamer.session.audio_window import CAPACITY_S, CATCH_UP_S, MAX_AUDIO_S, AudioWindow, WindowOptions

OPTIONS = WindowOptions(max_window_s=15.0)


def numbered(first: int, last: int) -> Tensor:
    """Frames of one band that say their own number."""
    return torch.arange(float(first), float(last)).unsqueeze(1)


@pytest.fixture
def window() -> AudioWindow:
    """Ten seconds of sound, of a stream that was joined after 100 s."""
    window = AudioWindow(1, OPTIONS, 100.0)
    window.append(numbered(0, 1000))
    return window


def test_stream_time_counts_from_the_offset(window: AudioWindow) -> None:
    """Frames are hundredths of a second after the first; nothing lies before it."""
    assert window.end_s == pytest.approx(110.0)
    assert window.frame(101.5) == 150
    assert window.stream_s(150) == pytest.approx(101.5)
    assert window.frame(99.0) == 0


def test_sound(window: AudioWindow) -> None:
    """From one frame to another, bands first."""
    assert window.log_mel(200, 203).tolist() == [[200.0, 201.0, 202.0]]


def test_opening_begins_afresh(window: AudioWindow) -> None:
    """Nothing of it has been seen, and results for the window before it are recognised as such."""
    before = window.id
    window.open(102.0)
    assert (window.start, window.seen) == (200, 200)
    assert window.id != before


def test_opening_before_what_is_held() -> None:
    """A window begins with the oldest sound that is left."""
    window = AudioWindow(1, OPTIONS, 0.0)
    for second in range(40):
        window.append(numbered(100 * second, 100 * second + 100))
    window.open(3.0)
    assert window.start_s == pytest.approx(40.0 - CAPACITY_S)
    assert window.is_held


def test_moving_only_forwards(window: AudioWindow) -> None:
    """A roll never brings back what was left out, and keeps the window's name: its text goes on."""
    window.open(102.0)
    before = window.id
    window.move(104.0)
    window.move(101.0)
    assert (window.start_s, window.id) == (pytest.approx(104.0), before)


def test_silence_is_not_looked_at(window: AudioWindow) -> None:
    """A step looks a little beyond the last voice, and never beyond what was heard."""
    assert window.target(105.0) == 500 + round(100 * OPTIONS.post_roll_s)
    assert window.target(109.9) == 1000


def test_a_step_of_a_late_session_is_bounded(window: AudioWindow) -> None:
    """It catches up by `CATCH_UP_S` at most."""
    window.open(101.0)
    assert window.edge(10_000) == 100 + round(100 * (OPTIONS.max_window_s + CATCH_UP_S))
    assert window.edge(700) == 700


def test_too_long(window: AudioWindow) -> None:
    """A window rolls when it reaches `max_window_s`."""
    window.open(101.0)
    window.seen = window.frame(100.9 + OPTIONS.max_window_s)
    assert not window.is_too_long
    window.seen = window.frame(101.0 + OPTIONS.max_window_s)
    assert window.is_too_long


def test_seen_pauses(window: AudioWindow) -> None:
    """A pause was seen when a step reached `pause_s` beyond the last voice."""
    window.seen = window.frame(105.0)
    assert window.has_seen_pause(105.0 - OPTIONS.pause_s)
    assert not window.has_seen_pause(105.1 - OPTIONS.pause_s)


def test_full_before_anything_is_lost() -> None:
    """The longest block that may come still finds room."""
    window = AudioWindow(1, OPTIONS, 0.0)
    while not window.is_full:
        window.append(numbered(0, 100))
    assert window.end_s + MAX_AUDIO_S - 1.0 <= CAPACITY_S
    window.append(numbered(0, round(100 * (MAX_AUDIO_S - 1.0))))
    assert window.is_held


def test_forgetting_keeps_the_pre_roll(window: AudioWindow) -> None:
    """What may turn out to be the beginning of a word stays."""
    window.forget()
    window.open(0.0)
    assert 110.0 - window.start_s >= OPTIONS.pre_roll_s
    assert 110.0 - window.start_s < OPTIONS.pre_roll_s + 2.0


def test_the_oldest_frame_is_at_most_the_capacity_old() -> None:
    """However long the stream, and wherever its window began."""
    window = AudioWindow(1, OPTIONS, 100.0)
    assert window.oldest_s == 100.0
    for n in range(0, 10_000, 100):
        window.append(numbered(n, n + 100))
        assert window.end_s - window.oldest_s <= CAPACITY_S
    assert window.oldest_s == pytest.approx(200.0 - CAPACITY_S)
