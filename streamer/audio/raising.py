"""
Raises quiet sound for the voice detector, whose network hears no voice in it. Pure.

With peaks of 0.003 it finds nothing of most recordings, with 0.01 half. Sound with louder peaks passes bit for bit.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from streamer.audio.pcm import SAMPLE_RATE

QUIET_PEAK = 0.03
"""Sound is raised while no peak of late was louder."""
STEP, MAX_STEPS = math.sqrt(10), 6
"""The gain is a power of this, 10 dB, so that it rarely changes; 60 dB at most."""
FADING_DB_PER_S = 2.0
"""How fast loud peaks are forgotten."""


class Raiser:
    """Raises the frames of one session."""

    def __init__(self) -> None:
        self._loudest = 0.0
        """Loudest peak of late."""

    def raised(self, frames: Tensor) -> Tensor:
        """The next frames (n, n_samples), raised where all of late was quiet, in the same shape."""
        fading = 10 ** (-FADING_DB_PER_S / 20 * frames.shape[1] / SAMPLE_RATE)
        gains = [self._gain(peak, fading) for peak in frames.abs().amax(dim=1).tolist()]
        return frames if max(gains, default=1.0) == 1.0 else frames * torch.tensor(gains)[:, None]

    def _gain(self, peak: float, fading: float) -> float:
        """Gain of the next frame, which has this peak."""
        self._loudest = max(peak, self._loudest * fading)
        n_steps = math.floor(math.log(QUIET_PEAK / max(self._loudest, 1e-9), STEP))
        return STEP ** min(max(n_steps, 0), MAX_STEPS)
