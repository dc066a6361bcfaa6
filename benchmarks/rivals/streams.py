"""What is said to every system: the same recordings in the same order, with silence between. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.common import pcm16
from streamer.audio.pcm import SAMPLE_RATE
from streamer.evaluation.bench import GAP_S, Clip


@dataclass(frozen=True, slots=True)
class Utterance:
    """A recording's place in a stream."""

    text: str
    end_s: float
    """Stream time of the end of its sound."""


@dataclass(frozen=True, slots=True)
class Stream:
    """What one client says."""

    pcm: NDArray[np.int16]
    utterances: tuple[Utterance, ...]

    @property
    def duration_s(self) -> float:
        """Of the sound, silences included."""
        return len(self.pcm) / SAMPLE_RATE

    @property
    def text(self) -> str:
        """All that is said."""
        return " ".join(utterance.text for utterance in self.utterances)


def make_stream(recordings: Sequence[Clip], seconds: float, seed: int, number: int) -> Stream:
    """Whole recordings in random order until `seconds` are full; stream `number` is the same in any company."""
    order = np.random.default_rng([seed, number]).permutation(len(recordings))
    pieces: list[NDArray[np.float32]] = []
    utterances: list[Utterance] = []
    n_samples = 0
    while n_samples < seconds * SAMPLE_RATE:
        recording = recordings[order[len(utterances) % len(order)]]
        n_samples += len(recording.samples)
        utterances.append(Utterance(recording.text, n_samples / SAMPLE_RATE))
        gap = np.zeros(int(GAP_S * SAMPLE_RATE), np.float32)
        pieces += [recording.samples, gap]
        n_samples += len(gap)
    pcm = pcm16(np.concatenate(pieces))
    return Stream(pcm, tuple(utterances))
