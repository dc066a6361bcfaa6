"""
Mixes channels to one while they come: causal, without clicks, and the same however the samples are split over calls.

Levels are measured in frames of 40 ms. The mix that a frame suggests holds from the next one on, at whose end it is
reached in a straight line; so no sample waits, and a channel that begins to sound is missed for 80 ms at most.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from streamer.audio.channels import FLOOR_DB, Levels, choose_mix, frame_grams, levels_db, plain_mean
from streamer.audio.pcm import Resampler, Samples, bounded, mean_of_channels
from streamer.audio.sample_range import RangeMeter

FRAME_S = 0.04
FORGET_DB_PER_S = 0.5
"""How fast the loudest and the quietest level are forgotten: a channel that falls silent stays for a minute or two."""
PHASE_S = 0.3
"""Sound for which it is remembered how channels go together."""
SMOOTH_S = 0.2
"""Sound over which levels are averaged before their range is taken: the level of noise varies too."""
MIN_NOISE_S = 3.0
"""Sound after which a channel may be taken for noise: a vowel is steady too."""
NEITHER_DB = 7.0
"""Range of levels that speaks neither for noise nor for speech."""
NEARLY_SILENT_DB = 30.0
"""Frames so far below the loudest level say nothing of how channels go together."""


class Mixer:
    """
    Mixes one signal.

    Args:
        n_channels: Of the samples.
        rate: Samples per second of each channel.
        speakers: Name of each channel; empty: unknown.
        known: Levels of the whole recording, if it was read before; None: it is live.
    """

    def __init__(self, n_channels: int, rate: int, speakers: Sequence[str] = (), known: Levels | None = None) -> None:
        self._speakers, self._known = tuple(speakers), known
        self._frame = np.zeros((max(1, round(rate * FRAME_S)), n_channels), np.float32)
        self._n_filled = 0
        self._before = self._mix = choose_mix(known, speakers) if known is not None else plain_mean(n_channels)
        """Mixes at the beginning and at the end of the present frame."""
        self._gram = known.gram if known is not None else np.zeros((n_channels, n_channels))
        self._power = np.zeros(n_channels)
        self._top_db = np.full(n_channels, FLOOR_DB)
        self._bottom_db = np.zeros(n_channels)
        self._n_heard = 0

    def mix(self, samples: Samples) -> Samples:
        """Mix (n, n_channels) to (n,)."""
        if samples.shape[1] == 1:
            return samples[:, 0]
        mixed, at = [np.zeros(0, np.float32)], 0
        while at < len(samples):
            n = len(self._frame) - self._n_filled
            mixed.append(self._mixed(samples[at : at + n]))
            at += n
        return np.concatenate(mixed)

    def _mixed(self, samples: Samples) -> Samples:
        """Mix samples of one frame, (n, n_channels)."""
        start = self._n_filled
        self._n_filled += len(samples)
        self._frame[start : self._n_filled] = samples
        mixed = self._weighted(samples, start)
        if self._n_filled == len(self._frame):
            self._end_frame()
        return mixed

    def _weighted(self, samples: Samples, start: int) -> Samples:
        if not self._before.about and not self._mix.about:
            return mean_of_channels(samples)
        weights = self._mix.weights
        if self._before is not self._mix:
            place = np.arange(start + 1, start + 1 + len(samples), dtype=np.float32) / np.float32(len(self._frame))
            weights = self._before.weights + (weights - self._before.weights) * place[:, None]  # (n, n_channels)
        mixed: Samples = (samples * weights).sum(axis=1, dtype=np.float32)
        return mixed

    def _end_frame(self) -> None:
        self._n_filled, self._before = 0, self._mix
        [gram] = frame_grams(self._frame, len(self._frame))
        self._follow(gram)
        chosen = choose_mix(self._levels(), self._speakers, was_turned=self._mix.is_turned)
        if chosen.about != self._mix.about or not np.array_equal(chosen.weights, self._mix.weights):
            self._mix = chosen

    def _follow(self, gram: NDArray[np.float64]) -> None:
        """Take the powers of one frame into account, (n_channels, n_channels)."""
        forgotten_db = FORGET_DB_PER_S * FRAME_S
        power = np.diag(gram)
        self._top_db = np.maximum(levels_db(power), self._top_db - forgotten_db)
        if (levels_db(power) > self._top_db.max() - NEARLY_SILENT_DB).any():
            self._gram = _averaged(self._gram, gram, PHASE_S)
        self._power = _averaged(self._power, power, SMOOTH_S)
        smooth_db = levels_db(self._power)
        self._n_heard += bool(self._n_heard or power.any())
        self._bottom_db = np.minimum(smooth_db, self._bottom_db + forgotten_db)

    def _levels(self) -> Levels:
        if self._known is not None:
            return Levels(self._known.top_db, self._known.bottom_db, self._gram)
        is_early = self._n_heard * FRAME_S < MIN_NOISE_S
        return Levels(self._top_db, self._top_db - NEITHER_DB if is_early else self._bottom_db, self._gram)


class MonoSignal:
    """
    Mixes and resamples one signal to mono samples at 16 kHz.

    Args:
        n_channels: Of the samples.
        rate: Samples per second of each channel.
        speakers: As for `Mixer`.
        known: As for `Mixer`.
        full_scale: What counts as 1, if the whole recording was measured before; None: floats must be so already.
    """

    def __init__(
        self,
        n_channels: int,
        rate: int,
        speakers: Sequence[str] = (),
        known: Levels | None = None,
        full_scale: int | None = None,
    ) -> None:
        self._mixer = Mixer(n_channels, rate, speakers, known)
        self._full_scale, self._range = full_scale, RangeMeter(rate)
        self._resampler = Resampler(rate)

    def convert(self, samples: Samples) -> Samples:
        """
        Convert (n, n_channels), finite; returns the samples that are complete, (m,), m possibly 0.

        Raises:
            AudioFormatError: The samples are in the range of integers, and it was not known before.
        """
        if self._full_scale is None:
            self._range.refuse_integers(samples)
        return self._resampler.resample(self._mixer.mix(bounded(samples / np.float32(self._full_scale or 1))))

    def finish(self) -> Samples:
        """Samples that the resampler still holds, (n,)."""
        return self._resampler.finish()


def _averaged(before: NDArray[np.float64], now: NDArray[np.float64], memory_s: float) -> NDArray[np.float64]:
    """A running average over so many seconds, which begins with the first sound."""
    kept = np.exp(-FRAME_S / memory_s) if before.any() else 0.0
    averaged: NDArray[np.float64] = kept * before + (1 - kept) * now
    return averaged
