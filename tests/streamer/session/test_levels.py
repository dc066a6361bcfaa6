"""Tests of streamer/session/levels.py: quiet stretches of a window get the level of speech."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from streamer.audio.mel import GAIN_STEP, QUIET, window_gain
from streamer.session.levels import LEAD_FRAMES, QUIETER, raise_quiet
from streamer.step import StepResult
from tests.helpers.sessions import new_session

NO_WORDS = StepResult(
    tokens=(), logprobs=(), starts_s=(0.0,), n_verified=0, ended=True, no_speech_prob=0.0, language="en"
)


def window(*stretches: tuple[int, float]) -> torch.Tensor:
    """Mel power of stretches of so many frames with so much power, (2, n_frames)."""
    return torch.cat([torch.full((2, n_frames), power) for n_frames, power in stretches], dim=1)


def test_ordinary_speech_is_left_as_it_is() -> None:
    """Stretches at the level of speech share the window with softer speech: nothing is added."""
    log_mel = window((100, 0.5), (100, -0.9), (100, -1.4), (100, 1.0))
    raised, gains = raise_quiet(log_mel, [0, 100, 200, 300])
    assert raised is log_mel
    assert gains == ()


def test_a_quiet_voice_after_a_loud_one_is_raised_alone() -> None:
    """The gain begins a moment before the first voice, and ends where the next stretch begins."""
    raised, gains = raise_quiet(window((100, 0.5), (100, -3.5), (100, 0.0)), [0, 100, 200])
    assert gains == (0.0, 3.0, 0.0)
    changes = torch.nonzero(raised[0].diff())[:, 0] + 1
    assert changes.tolist() == [100 - LEAD_FRAMES, 100, 200 - LEAD_FRAMES, 200]
    assert float(raised[0, 150]) == -0.5


def test_a_quiet_window_is_raised_whole() -> None:
    """Without a loud stretch, all get the gain of the loudest."""
    raised, gains = raise_quiet(window((100, -2.5), (100, -3.2)), [5, 100])
    assert gains == (2.0, 2.0)
    assert torch.equal(raised, window((100, -0.5), (100, -1.2)))


def test_a_window_without_voice_is_one_stretch() -> None:
    """Its gain is that of its loudest entry."""
    assert raise_quiet(window((50, -2.5)), [])[1] == (2.0,)


@given(
    powers=st.lists(st.floats(-9.0, 2.0), min_size=1, max_size=6),
    lengths=st.lists(st.integers(LEAD_FRAMES + 1, 80), min_size=6, max_size=6),
)
def test_no_stretch_is_lowered_nor_raised_above_speech(powers: list[float], lengths: list[int]) -> None:
    """Every gain is between none and what brings that stretch to the level of speech."""
    parts = [part for n, power in zip(lengths, powers, strict=False) for part in ((30, -9.0), (n, power))]
    firsts = [sum(n for n, _ in parts[: i + 1]) for i in range(0, len(parts), 2)]
    log_mel = window(*parts)
    raised, gains = raise_quiet(log_mel, firsts)
    assert raised.shape == log_mel.shape
    common = min(gains, default=0.0)
    for gain in gains:
        assert gain == common or gain - common >= QUIETER
    loudest = float(log_mel.max())
    assert float(raised.max()) <= max(loudest, QUIET + GAIN_STEP) + 1e-5
    assert common == window_gain(loudest)


@pytest.mark.parametrize("seed", range(4))
def test_a_window_with_one_name_only_grows(seed: int) -> None:
    """Whoever holds its frames needs new ones alone, however loud and quiet stretches of speech follow each other."""
    random, session = np.random.default_rng(seed), new_session()
    held: dict[object, torch.Tensor] = {}
    n_grown = n_raised = 0
    for _ in range(40):
        level, is_voice = random.uniform(-4.0, 1.0), float(random.random() < 0.7)
        for _ in range(int(random.integers(1, 12))):
            session.push_frames(level + 0.1 * torch.rand(16, 2), [is_voice] * 5)
            if session.is_due(0.3):
                step = session.next_step()
                window, before = step.request.log_mel, held.get(step.request.window)
                held = {step.request.window: window}
                if before is not None:
                    n = min(before.shape[1], window.shape[1])
                    assert torch.equal(window[:, :n], before[:, :n])
                    n_grown, n_raised = n_grown + 1, n_raised + any(step.request.gains)
                session.apply(step, NO_WORDS)

    assert n_grown > n_raised > 0
