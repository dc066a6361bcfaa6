"""
Front end: samples of many sessions to mel frames and voice probabilities, in one batch.

Runs on the thread that owns the device. The state of each session is an argument (`FeatureState`).
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass

import torch
from torch import Tensor

from streamer.audio.mel import N_FFT, FrameStream, MelSpectrogram
from streamer.audio.offset import OffsetFilter
from streamer.audio.raising import Raiser
from streamer.audio.vad import FRAME_SAMPLES, VoiceDetector, VoiceState
from streamer.errors import DeviceError

END_SAMPLES = N_FFT + FRAME_SAMPLES
"""Samples of silence to append after the last audio: mel and voice frames that reach past its end become complete."""


class FeatureState:
    """Front-end state of one session: offset, loudness, samples that do not fill a frame yet, the detector's state."""

    def __init__(self) -> None:
        self.offset = OffsetFilter()
        self.frames = FrameStream()
        self.raiser, self.voice = Raiser(), VoiceState()
        self._pending = torch.empty(0)

    def copied(self) -> FeatureState:
        """A state that can go on by itself; it shares the tensors, which are replaced and never changed."""
        twin = copy(self)
        twin.offset, twin.frames = copy(self.offset), copy(self.frames)
        twin.raiser, twin.voice = copy(self.raiser), copy(self.voice)
        return twin

    def take(self, twin: FeatureState) -> None:
        """Become what a copy has become."""
        self.offset, self.frames, self._pending = twin.offset, twin.frames, twin._pending
        self.raiser, self.voice = twin.raiser, twin.voice

    def whole_frames(self, samples: Tensor) -> Tensor:
        """Append samples (n,); returns the voice frames they complete, (n_frames, 512), quiet ones raised."""
        pending = torch.cat([self._pending, samples])
        n = pending.shape[0] // FRAME_SAMPLES
        self._pending = pending[n * FRAME_SAMPLES :].clone()
        return self.raiser.raised(pending[: n * FRAME_SAMPLES].reshape(n, FRAME_SAMPLES))


@dataclass(frozen=True, slots=True)
class Features:
    """New features of one session."""

    frames: Tensor
    """Log10 mel power, (n_frames, n_mels)."""
    probabilities: list[float]
    """Probability of voice of each 32 ms."""


class FrontEnd:
    """Batched mel spectrogram and voice detection."""

    def __init__(self, spectrogram: MelSpectrogram, detector: VoiceDetector) -> None:
        self._spectrogram, self._detector = spectrogram, detector

    def extract(self, states: Sequence[FeatureState], samples: Sequence[Tensor]) -> list[Features]:
        """
        Features of the next samples of several sessions.

        Args:
            states: State of each session; updated by this call, where it succeeds.
            samples: Samples of each session, (n,), float32 at 16 kHz, any n.

        Raises:
            DeviceError: The device failed; the same call may be made again.
        """
        twins = [state.copied() for state in states]
        try:
            features = self._extract(twins, samples)
        except (RuntimeError, MemoryError) as error:  # torch reports a failing device as RuntimeError
            raise DeviceError(f"audio features of {len(states)} sessions failed on the device: {error}") from error
        for state, twin in zip(states, twins, strict=True):
            state.take(twin)
        return features

    def _extract(self, states: Sequence[FeatureState], samples: Sequence[Tensor]) -> list[Features]:
        with torch.inference_mode():
            samples = [state.offset.filter(block) for state, block in zip(states, samples, strict=True)]
            cut = [state.frames.push(block) for state, block in zip(states, samples, strict=True)]
            counts = [sum(part.shape[0] for part in parts) for parts in cut]
            parts = [part for parts in cut for part in parts]
            # (n_frames of all sessions, n_mels)
            mels = self._spectrogram(torch.cat(parts)) if parts else torch.empty(0, self._spectrogram.n_mels)
            voices = self._judge(
                [state.whole_frames(block) for state, block in zip(states, samples, strict=True)], states
            )
            return [Features(*each) for each in zip(mels.split(counts), voices, strict=True)]

    def _judge(self, frames: list[Tensor], states: Sequence[FeatureState]) -> list[list[float]]:
        rows = [i for i, block in enumerate(frames) if block.shape[0]]
        found: list[list[float]] = [[] for _ in frames]
        if rows:
            judged = self._detector([frames[i] for i in rows], [states[i].voice for i in rows])
            for i, probabilities in zip(rows, judged, strict=True):
                found[i] = probabilities
        return found
