"""
Noise: whether it fills the rests of a window. Pure.

Speech rests between words and in its own consonants, so the loud tenth of its frames lies far above the quiet tenth;
noise fills the gaps. By made noise and by recordings (docs/experiments.md): clear speech has 20 to 60 dB between the
two, speech in babble, in music or among dishes 10 to 17 dB.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

NOISY = 1.8
"""Distance of the loud tenth of the frames from the quiet tenth below which a window is noisy, log10: 18 dB."""


def is_noisy(log_mel: Tensor) -> bool:
    """
    Whether noise fills the rests of a window.

    Args:
        log_mel: log10 mel power of the window, (n_mels, n_frames).
    """
    power = (log_mel * math.log(10)).logsumexp(dim=0) / math.log(10)  # (n_frames,)
    quiet, loud = power.quantile(torch.tensor([0.1, 0.9])).tolist()
    return bool(loud - quiet < NOISY)
