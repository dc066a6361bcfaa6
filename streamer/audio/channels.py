"""
Which channels and tracks are transcribed, and how channels are mixed: by what sounds, not by a blind mean. Pure.

The plain mean of all channels is the rule. It fails where a channel is silent (the speech gets quiet), where one holds
only steady noise (the speech drowns), where channels are out of phase (they cancel each other), and where speech stands
in the centre among many channels. Each of these is found by the levels of the channels and by how they go together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from streamer.audio.pcm import Samples

SILENT_DB = -70.0
"""Level of full scale below which a channel is silent at its loudest: half the last bit of 12-bit samples."""
QUIET_DB = 50.0
"""A channel that stays so far below the loudest one is silent beside it: crosstalk of a cable."""
STEADY_DB, LIVELY_DB = 5.0, 10.0
"""
Range of levels below which a channel is steady (noise, hum), and from which on it may be speech. White and pink noise
have 1 to 2 dB, noise that falls by 6 dB an octave 4 to 7, the dev recordings 23 to 58, and 9 to 17 in noise at 5 dB.
"""
TURN_GAIN, KEEP_GAIN = 4.0, 2.0
"""
Power that is gained by turning over the channels that are opposite to the loudest: from the first number on they are
turned, and stay so down to the second. Channels without relation gain about 1.
"""
CANCELLED = 0.25
"""Power of the sum of channels over the sum of their powers below which they cancel each other: 1 without relation."""
WEIGHTS = {"FC": 1.0, "FL": 0.7, "FR": 0.7, "LFE": 0.0, "LFE2": 0.0}
"""Of speakers where there is a centre, after ITU-R BS.775; all others 0.5. Speech stands in the centre."""
FLOOR_DB = -120.0
N_BINS = 122
FRAMES_PER_S = 10
"""Frames in which a whole recording is measured: longer than a period of any sound, shorter than a syllable."""
TOP_SHARE, BOTTOM_SHARE = 0.999, 0.1
"""Shares of the frames below the loudest and the quiet level."""


@dataclass(frozen=True, slots=True)
class Levels:
    """What is known of the channels of a track."""

    top_db: NDArray[np.float64]
    """Level of the loudest frames of each channel, (n_channels,), decibels of full scale."""
    bottom_db: NDArray[np.float64]
    """Level of the quiet frames of each channel, (n_channels,)."""
    gram: NDArray[np.float64]
    """Power of each channel, and of each pair, (n_channels, n_channels)."""

    @property
    def sounding(self) -> NDArray[np.bool_]:
        """Channels that are not silent, (n_channels,)."""
        found: NDArray[np.bool_] = self.top_db > max(SILENT_DB, float(self.top_db.max()) - QUIET_DB)
        return found

    @property
    def range_db(self) -> NDArray[np.float64]:
        """Range of levels of each channel, (n_channels,): large for speech, small for noise."""
        return self.top_db - self.bottom_db


@dataclass(frozen=True, slots=True)
class Mix:
    """Weights of the channels."""

    weights: Samples
    """(n_channels,)."""
    about: str = ""
    """What is done, in words; empty: the plain mean is taken."""
    is_turned: bool = False
    """Whether channels out of phase are turned over."""


def plain_mean(n_channels: int) -> Mix:
    """The mean of all channels."""
    return Mix(np.full(n_channels, 1 / n_channels, np.float32))


def frame_grams(samples: Samples, n_frame: int) -> NDArray[np.float64]:
    """
    Power of each channel and of each pair in frames without their mean, (n_frames, n_channels, n_channels).

    Args:
        samples: (n, n_channels), a whole number of frames.
        n_frame: Samples of a frame.
    """
    frames = samples.reshape(-1, n_frame, samples.shape[1]).astype(np.float64)
    frames -= frames.mean(axis=1, keepdims=True)
    grams: NDArray[np.float64] = np.matmul(frames.transpose(0, 2, 1), frames) / n_frame
    return grams


def levels_db(power: NDArray[np.float64]) -> NDArray[np.float64]:
    """Decibels of full scale of powers, in the same shape; `FLOOR_DB` at least."""
    found: NDArray[np.float64] = 10 * np.log10(np.maximum(power, 10 ** (FLOOR_DB / 10)))
    return found


class LevelMeter:
    """
    Measures the channels of one track; memory does not grow with its length.

    Args:
        n_channels: Of the samples.
        rate: Samples per second of each channel.
    """

    def __init__(self, n_channels: int, rate: int) -> None:
        self._n_frame = max(1, rate // FRAMES_PER_S)
        self._rest = np.zeros((0, n_channels), np.float32)
        self._counts = np.zeros((n_channels, N_BINS), np.int64)
        """Frames at each decibel above `FLOOR_DB`, of each channel."""
        self._gram = np.zeros((n_channels, n_channels))
        self._n_cancelled = 0

    @property
    def cancelled_s(self) -> float:
        """Sound in which channels cancel each other, seconds."""
        return self._n_cancelled / FRAMES_PER_S

    def add(self, samples: Samples) -> None:
        """Measure (n, n_channels)."""
        samples = np.concatenate([self._rest, samples])
        n_whole = len(samples) - len(samples) % self._n_frame
        self._rest = samples[n_whole:]
        if n_whole:
            self._count(frame_grams(samples[:n_whole], self._n_frame))

    def levels(self) -> Levels:
        """What was found so far."""
        if not self._counts.any() and len(self._rest):  # shorter than a frame
            self._count(frame_grams(self._rest, len(self._rest)))
        n_frames = max(1, int(self._counts[0].sum()))
        return Levels(self._at(TOP_SHARE), self._at(BOTTOM_SHARE), self._gram / n_frames)

    def _count(self, grams: NDArray[np.float64]) -> None:
        self._gram += grams.sum(axis=0)
        powers = np.einsum("fcc->fc", grams)  # (n_frames, n_channels)
        bins = np.minimum(levels_db(powers) - FLOOR_DB, N_BINS - 1).astype(np.int64)
        for counts, found in zip(self._counts, bins.T, strict=True):
            counts += np.bincount(found, minlength=N_BINS)
        # of the plain mean: the factor of both sides is left out
        apart, together = powers.sum(axis=1), grams.sum(axis=(1, 2))
        self._n_cancelled += int(((levels_db(apart) > SILENT_DB) & (together < CANCELLED * apart)).sum())

    def _at(self, share: float) -> NDArray[np.float64]:
        """Level below which this share of the frames is, (n_channels,)."""
        wanted = share * self._counts[0].sum()
        found: NDArray[np.float64] = FLOOR_DB + (self._counts.cumsum(axis=1) < wanted).sum(axis=1)
        return found


def choose_mix(levels: Levels, speakers: Sequence[str] = (), *, was_turned: bool = False) -> Mix:
    """
    How to mix the channels of one track.

    Args:
        levels: Of the channels so far, or of the whole recording.
        speakers: Name of each channel (`FL`, `FC`, …); empty: unknown.
        was_turned: Whether the mix before this one turned channels over.
    """
    n_channels = len(levels.top_db)
    sounding = levels.sounding
    if n_channels == 1 or not sounding.any():
        return plain_mean(n_channels)
    noisy = _noisy(levels, sounding)
    weights = np.where(sounding & ~noisy, _weights_of_speakers(n_channels, speakers), 0.0)
    if not weights.any():  # the channel for deep sound alone
        weights = np.where(sounding & ~noisy, 1.0, 0.0)
    weights /= weights.sum()
    turned = _turned(weights, levels.gram, was_turned=was_turned)
    about = _about(sounding, noisy, weights, is_turned=turned is not None)
    mixed = weights if turned is None else turned
    return Mix(mixed.astype(np.float32), about, turned is not None) if about else plain_mean(n_channels)


def choose_track(tracks: Sequence[Sequence[Levels]]) -> int:
    """
    The track to transcribe: the first that may hold speech, else the first that sounds, else the first.

    Args:
        tracks: Levels of each track, for each layout that it has; none: nothing could be decoded.
    """
    for least_db in (LIVELY_DB, 0.0):
        for number, layouts in enumerate(tracks):
            if any((levels.sounding & (levels.range_db >= least_db)).any() for levels in layouts if _sounds(levels)):
                return number
    return next((number for number, layouts in enumerate(tracks) if layouts), 0)


def sounds(layouts: Sequence[Levels]) -> bool:
    """Whether a track is not silent."""
    return any(map(_sounds, layouts))


def _sounds(levels: Levels) -> bool:
    return bool((levels.top_db > SILENT_DB).any())


def _noisy(levels: Levels, sounding: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Channels of steady sound, (n_channels,), where another one may hold speech."""
    if not (sounding & (levels.range_db >= LIVELY_DB)).any():
        return np.zeros_like(sounding)
    found: NDArray[np.bool_] = sounding & (levels.range_db < STEADY_DB)
    return found


def _weights_of_speakers(n_channels: int, speakers: Sequence[str]) -> NDArray[np.float64]:
    if len(speakers) != n_channels or "FC" not in speakers or n_channels < 3:
        return np.ones(n_channels)
    return np.array([WEIGHTS.get(name, 0.5) for name in speakers])


def _turned(weights: NDArray[np.float64], gram: NDArray[np.float64], *, was_turned: bool) -> NDArray[np.float64] | None:
    """The weights with the sign of channels turned that are opposite to the loudest one; None: too little is gained."""
    loudest = int(np.argmax(weights**2 * np.diag(gram)))
    turned = weights * np.where(gram[loudest] < 0, -1.0, 1.0)
    gained, plain = float(turned @ gram @ turned), float(weights @ gram @ weights)
    return turned if gained > (KEEP_GAIN if was_turned else TURN_GAIN) * max(plain, 0.0) else None


def _about(
    sounding: NDArray[np.bool_], noisy: NDArray[np.bool_], weights: NDArray[np.float64], *, is_turned: bool
) -> str:
    """What differs from the plain mean, in words."""
    facts = []
    if not sounding.all():
        facts.append(f"{_named(~sounding)} silent")
    if noisy.any():
        facts.append(f"{_named(noisy)} steady noise")
    if is_turned:
        facts.append("the channels are out of phase")
    if not facts and len(set(weights.tolist())) == 1:
        return ""
    if not facts:
        facts.append("the centre is heard most")
    way = ", some turned over" if is_turned else ""
    return f"{', '.join(facts)}: {_named(weights > 0)} transcribed{way}, not the plain mean"


def _named(chosen: NDArray[np.bool_]) -> str:
    """The numbers of channels, from 1, as the subject of a sentence with its verb."""
    numbers = [str(number) for number in np.flatnonzero(chosen) + 1]
    return f"channel {numbers[0]} is" if len(numbers) == 1 else f"channels {', '.join(numbers)} are"
