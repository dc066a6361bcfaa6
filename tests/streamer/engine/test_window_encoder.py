"""Tests of streamer.engine.window_encoder; tests/equivalence/test_settled.py shows that settling changes no text."""

from __future__ import annotations

import pytest
import torch

from streamer.engine.engine import WhisperEngine
from streamer.engine.window_encoder import is_outgrown
from tests.helpers.engines import engine_on, request, toy


def engine() -> WhisperEngine:
    """A few thousand random weights; sound settles half a second behind the newest."""
    return engine_on(toy(), max_batch=2, max_window_s=2.0, bucket=8, n_tail=20, settle_s=0.5, margin_frames=4)


def noise(n_frames: int) -> torch.Tensor:
    """The beginning of one endless window."""
    return torch.randn(5, 200, generator=torch.Generator().manual_seed(0))[:, :n_frames]


def test_sound_settles_behind_the_newest() -> None:
    """In whole buckets, at least so long before the end of the window; a window seen once leaves nothing."""
    ours = engine()

    settled = []
    for n_frames in (40, 80, 140, 200):
        asked = request(noise(n_frames), window_start=0)
        ours.step([asked])
        settled.append(ours.window_encoder.n_settled(asked))
    ours.step([request(noise(200), "once")])

    ours.check_integrity()
    assert settled == [0, 8, 40, 72]
    assert ours.window_encoder.n_settled(request(noise(200), "once")) == 0


def test_another_window_or_gain_is_another_sound() -> None:
    """What is settled of one is of no use for the other."""
    ours = engine()
    ours.step([request(noise(200), window_start=0)])

    assert ours.window_encoder.n_settled(request(noise(200), window_start=0)) == 72
    assert ours.window_encoder.n_settled(request(noise(200), window_start=50)) == 0
    assert ours.window_encoder.n_settled(request(noise(200), window_start=0, gains=(1.0,))) == 0


def test_a_session_that_is_over_is_forgotten() -> None:
    """And its memory is given back."""
    ours = engine()
    ours.step([request(noise(200), window_start=0)])
    assert ours.window_encoder.n_bytes > 0

    ours.forget("s")

    assert ours.window_encoder.n_bytes == 0
    ours.check_integrity()


@pytest.mark.parametrize(
    ("n_positions", "growth", "expected"),
    [(59, 1.5, False), (60, 1.5, True), (79, 2.0, False), (80, 2.0, True), (4000, None, False)],
)
def test_a_window_is_outgrown_by_its_length_alone(n_positions: int, growth: float | None, expected: bool) -> None:
    """From the given multiple of its length at the last whole pass on; without one, never."""
    assert is_outgrown(n_positions, 40, growth, 41) is expected
    assert not is_outgrown(n_positions, 40, growth, 40)


def test_nothing_settled_is_nothing_outgrown() -> None:
    """A window that is new, or too short to settle, is encoded whole without being told so."""
    ours = engine()
    grown = [request(noise(n_frames), window_start=0) for n_frames in (20, 40, 200)]

    assert not ours.window_encoder.is_outgrown(grown[-1])
    for asked in grown[:2]:
        ours.step([asked])
    assert not ours.window_encoder.is_outgrown(grown[-1])
