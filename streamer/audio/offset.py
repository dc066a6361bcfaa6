"""
Takes a large constant offset out of the samples of a stream, as a faulty sound card adds one. Pure.

Beside it the voice detector hears no speech. Sound without such an offset passes bit for bit, and none has to wait: the
mean of a frame is taken out of the next one, at whose end it is reached in a straight line.
"""

from __future__ import annotations

import torch
from torch import Tensor

FRAME_SAMPLES = 1600
"""Samples over which the mean is taken, 0.1 s at 16 kHz: several periods of any voice."""
LEAST = 1 / 16
"""Mean of a frame from which on it is an offset: speech has up to 0.035, and in steady noise 0.048."""


class OffsetFilter:
    """Filters the mono samples of one session; the result does not depend on how they are split over calls."""

    def __init__(self) -> None:
        self._n, self._sum = 0, 0.0
        """Samples of the present frame so far, and their sum."""
        self._before = self._now = 0.0
        """What is taken out at the beginning and at the end of the present frame."""

    def filter(self, samples: Tensor) -> Tensor:
        """Filter the next samples (n,), float32; they themselves where nothing is to be taken out."""
        first = FRAME_SAMPLES - self._n
        parts = [samples[:first], *samples[first:].split(FRAME_SAMPLES)]
        filtered = [self._filtered(part) for part in parts]
        is_same = all(one is other for one, other in zip(filtered, parts, strict=True))
        return samples if is_same else torch.cat(filtered)

    def _filtered(self, part: Tensor) -> Tensor:
        """Filter samples of one frame, (n,)."""
        start, before, now = self._n, self._before, self._now
        self._n, self._sum = start + part.shape[0], self._sum + float(part.sum(dtype=torch.float64))
        if self._n == FRAME_SAMPLES:
            mean = self._sum / FRAME_SAMPLES
            self._before, self._now = now, mean if abs(mean) >= LEAST else 0.0
            self._n, self._sum = 0, 0.0
        if not before and not now:
            return part
        place = torch.arange(start + 1, start + 1 + part.shape[0]) / FRAME_SAMPLES  # (n,)
        return part - (before + (now - before) * place)
