"""Tests of streamer/session/noise.py: which windows are noisy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from streamer.audio.mel import MelSpectrogram
from streamer.audio.pcm import SAMPLE_RATE, Samples
from streamer.session.noise import is_noisy
from tests.helpers.recordings import Recording

CLEAR = ("dev-jfk", "dev-ls-1089-134686-0000", "dev-sns-0870")


def log_mel(samples: Samples) -> torch.Tensor:
    """Mel power of samples, (80, n_frames)."""
    return MelSpectrogram(80).whole(torch.from_numpy(samples))


def windows(samples: Samples) -> list[torch.Tensor]:
    """Windows of a recording as it grows, 2 s and longer, (n_mels, n_frames)."""
    return [log_mel(samples[: round(s * SAMPLE_RATE)]) for s in np.arange(2.0, len(samples) / SAMPLE_RATE, 1.0)]


def in_noise(samples: Samples, decibels: float, colour: float) -> Samples:
    """Samples with noise so far below the mean power of the speech; `colour` 0 is white, 1 pink, 2 brown."""
    spectrum = np.fft.rfft(np.random.default_rng(1).standard_normal(len(samples)))
    frequencies = np.maximum(np.fft.rfftfreq(len(samples), 1 / SAMPLE_RATE), 20.0)
    noise = np.fft.irfft(spectrum * frequencies ** (-colour / 2), len(samples))
    gain = np.sqrt(np.mean(samples**2) / np.mean(noise**2) / 10 ** (decibels / 10))
    return (samples + gain * noise).astype(np.float32)


@pytest.mark.parametrize("name", CLEAR)
def test_clear_speech_is_not_noisy(recordings: dict[str, Recording], name: str) -> None:
    """However long the window is, and however loud the voice."""
    samples = recordings[name].samples
    for gain in (0.05, 1.0):
        assert not any(map(is_noisy, windows(gain * samples)))


@pytest.mark.parametrize("name", CLEAR)
@pytest.mark.parametrize("colour", [0.0, 1.0])
def test_speech_in_noise_is_noisy(recordings: dict[str, Recording], name: str, colour: float) -> None:
    """White and pink noise 5 dB below the speech: all windows; 30 dB below: none."""
    samples = recordings[name].samples
    assert all(map(is_noisy, windows(in_noise(samples, 5.0, colour))))
    assert not any(map(is_noisy, windows(in_noise(samples, 30.0, colour))))


def test_digital_silence_around_speech_is_no_noise(recordings: dict[str, Recording]) -> None:
    """Frames without any power are the quietest there are."""
    spoken = recordings["dev-jfk"].samples
    silence = np.zeros(SAMPLE_RATE, np.float32)
    assert not is_noisy(log_mel(np.concatenate([silence, in_noise(spoken, 5.0, 1.0)[: 2 * SAMPLE_RATE], silence])))
