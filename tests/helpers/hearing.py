"""The front end's parts, read once."""

from __future__ import annotations

import functools
import itertools
import warnings
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from streamer.audio.frontend import FrontEnd
from streamer.audio.mel import MelSpectrogram
from streamer.audio.vad import VoiceDetector, read_weights


@functools.cache
def voice_weights() -> Mapping[str, Tensor]:
    """The installed voice activity weights; reading them the way their file asks for warns."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return read_weights()


def front_end(n_mels: int = 80) -> FrontEnd:
    """A front end with real weights."""
    return FrontEnd(MelSpectrogram(n_mels), VoiceDetector(voice_weights()))


def cut_at(samples: Tensor, places: Sequence[int]) -> list[Tensor]:
    """The samples in blocks that end at these places, in order, and at the end; some may be empty."""
    edges = [0, *sorted(min(place, samples.shape[0]) for place in places), samples.shape[0]]
    return [samples[a:b] for a, b in itertools.pairwise(edges)]


def noise(n_samples: int, seed: int = 0) -> Tensor:
    """Quiet white noise, (n_samples,)."""
    return torch.randn(n_samples, generator=torch.Generator().manual_seed(seed)) * 0.1
