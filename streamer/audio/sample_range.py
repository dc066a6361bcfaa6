"""
Tells floats in the range of integers from those in [-1, 1]: clipped at 1, the former are noise. Pure.

Speech in floats may be louder than 1 for moments. It never stays beyond `FAR` for most of a tenth of a second.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from streamer.errors import AudioFormatError

FAR = 4.0
"""Beyond this, in either direction, lie most samples of a frame of integers: 78 dB below the loudest of 16 bits."""
NEAR_SHARE, LOUD_SHARE = 0.25, 0.99
"""Shares of the samples of a frame below the number that must be beyond `FAR`, and below its loud samples."""
FRAMES_PER_S = 10
MIN_FRAMES = 3
"""Frames of integers from which on a recording is believed to hold them."""
SCALES = (2**15, 2**23, 2**31)
"""Full scales of integers of 16, 24 and 32 bits. What is louder is damaged rather than made of integers."""
SCALE_SHARE = 0.9
"""Share of the frames whose loud samples the full scale must hold: a few may be damaged."""


class RangeMeter:
    """
    Finds out the range of the samples of one signal.

    Args:
        rate: Samples per second of each channel.
    """

    def __init__(self, rate: int) -> None:
        self._n_frame = max(1, rate // FRAMES_PER_S)
        self._rest = np.zeros(0, np.float32)
        self._n_held = dict.fromkeys(SCALES, 0)
        """Frames of integers, by the smallest full scale that holds them."""

    def add(self, samples: NDArray[np.float32]) -> None:
        """Measure (n, n_channels), finite and not clipped."""
        loudest = np.concatenate([self._rest, np.abs(samples).max(axis=1)])
        n_whole = len(loudest) - len(loudest) % self._n_frame
        self._rest = loudest[n_whole:]
        frames = loudest[:n_whole].reshape(-1, self._n_frame)
        for frame in frames[frames.max(axis=1) > FAR]:
            near, loud = np.quantile(frame, (NEAR_SHARE, LOUD_SHARE))
            scale = next((scale for scale in SCALES if loud <= scale), None)
            if near > FAR and scale is not None:
                self._n_held[scale] += 1

    @property
    def full_scale(self) -> int:
        """What counts as 1: 1, unless the samples are in the range of integers."""
        n_frames, n_held = sum(self._n_held.values()), 0
        for scale, n in self._n_held.items():
            n_held += n
            if n_frames >= MIN_FRAMES and n_held >= SCALE_SHARE * n_frames:
                return scale
        return 1

    def refuse_integers(self, samples: NDArray[np.float32]) -> None:
        """
        Measure (n, n_channels) of a signal whose other samples are not known yet.

        Raises:
            AudioFormatError: The signal is in the range of integers.
        """
        self.add(samples)
        if (scale := self.full_scale) > 1:
            raise AudioFormatError(
                f"the samples are floats in the range of integers: expected -1 to 1; divide them by {scale}, or send "
                "them as integers"
            )
