"""What is said to every system: the same recordings in the same order, with silence between. Pure but for reading."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from streamer.audio_file import read_audio
from streamer.errors import ConfigError
from streamer.evaluate import read_manifest
from streamer.mel import SAMPLE_RATE

GAP_S = 0.6
"""Digital silence after each recording."""


@dataclass(frozen=True, slots=True)
class Recording:
    """One utterance: mono samples at 16 kHz and what is said in it."""

    samples: NDArray[np.float32]
    text: str


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


def read_recordings(manifest: Path) -> list[Recording]:
    """
    The short English recordings of a manifest.

    Raises:
        ConfigError: There are none.
    """
    rows = [row for row in read_manifest(manifest) if row.kind == "short" and row.language == "en"]
    if not rows:
        raise ConfigError(f'{manifest}: no recording of kind "short" and language "en"')
    return [Recording(read_audio(manifest.parent / row.file), row.text) for row in rows]


def make_stream(recordings: Sequence[Recording], seconds: float, seed: int, number: int) -> Stream:
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
    pcm = (np.clip(np.concatenate(pieces), -1, 1) * 32767).astype("<i2")
    return Stream(pcm, tuple(utterances))
