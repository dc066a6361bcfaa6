"""What the readers of files share: blocks of samples as they are stored, and what was lost on the way."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np

from streamer.audio.notes import Losses
from streamer.audio.pcm import Samples
from streamer.errors import AudioFormatError

MIN_FILE_RATE, MAX_FILE_RATE = 1000, 384_000
"""Sample rates of files, hertz."""
MAX_FILE_CHANNELS = 64
JOINED_S = 0.25
"""Length of blocks that are joined, seconds, at least."""
PIECE_VALUES = 262_144
"""Most values (samples of all channels) of a block, 1 MB."""


@dataclass(frozen=True, slots=True)
class Block:
    """Samples of one track that follow each other."""

    track: int
    rate: int
    """Samples per second of each channel, as the decoder says with each frame."""
    speakers: tuple[str, ...]
    """Name of each channel; empty: unknown."""
    samples: Samples
    """(n, n_channels), finite; floats as they are stored, also beyond [-1, 1]."""

    def is_continued_by(self, other: Block) -> bool:
        """Whether another block of this track has the same layout."""
        return (self.rate, self.samples.shape[1], self.speakers) == (
            other.rate,
            other.samples.shape[1],
            other.speakers,
        )


@dataclass(slots=True)
class Track:
    """What was found of one track so far."""

    losses: Losses = field(default_factory=Losses)
    _n_samples: dict[int, int] = field(default_factory=dict)
    """Samples of each channel, by their rate: seconds would not add up exactly."""

    @property
    def decoded_s(self) -> float:
        """Sound that was decoded, seconds."""
        return sum(n / rate for rate, n in self._n_samples.items())

    def count(self, n: int, rate: int) -> None:
        """Count samples of each channel."""
        self._n_samples[rate] = self._n_samples.get(rate, 0) + n


class Reader(Protocol):
    """An open recording. It is read once."""

    @property
    def tracks(self) -> list[Track]:
        """Its tracks; complete once everything was read."""

    def announced_s(self, track: int) -> float | None:
        """Length of a track that its header announces, if told exactly, seconds. Never believed, only compared."""

    def blocks(self) -> Iterator[Block]:
        """Everything that can be decoded. What cannot be is counted in `tracks`."""

    def close(self) -> None:
        """Release the decoder, but not the file."""


def joined(blocks: Iterable[Block]) -> Iterator[Block]:
    """The same samples in longer blocks of each track: work on a block costs more than its length says."""
    kept: dict[int, list[Block]] = {}
    n_kept: dict[int, int] = {}
    for block in blocks:
        waiting = kept.setdefault(block.track, [])
        if waiting and not waiting[0].is_continued_by(block):
            yield _one(waiting)
            n_kept[block.track] = 0
        waiting.append(block)
        n_kept[block.track] = n_kept.get(block.track, 0) + len(block.samples)
        if n_kept[block.track] >= block.rate * JOINED_S:
            yield _one(waiting)
            n_kept[block.track] = 0
    yield from (_one(waiting) for waiting in kept.values() if waiting)


def _one(waiting: list[Block]) -> Block:
    """One block of several, which are forgotten."""
    block = replace(waiting[0], samples=np.concatenate([each.samples for each in waiting]))
    waiting.clear()
    return block


def problem_of_layout(rate: int, n_channels: int) -> str:
    """What is wrong with a layout; empty: nothing."""
    if not MIN_FILE_RATE <= rate <= MAX_FILE_RATE:
        return f"{rate} samples per second, expected {MIN_FILE_RATE} to {MAX_FILE_RATE}"
    if not 1 <= n_channels <= MAX_FILE_CHANNELS:
        return f"{n_channels} channels, expected 1 to {MAX_FILE_CHANNELS}"
    return ""


def check_layout(name: str, rate: int, n_channels: int) -> None:
    """
    Check what a header tells.

    Args:
        name: Of the file, for the message.
        rate: Samples per second of each channel.
        n_channels: Channels.

    Raises:
        AudioFormatError: No recording has such a layout.
    """
    if problem := problem_of_layout(rate, n_channels):
        raise AudioFormatError(f"{name}: {problem}")


def cleaned(samples: Samples, track: Track, rate: int) -> Samples:
    """
    The samples, (n, n_channels); those that are no numbers become silence.

    Args:
        samples: (n, n_channels).
        track: Counts what is lost.
        rate: Samples per second of each channel.
    """
    is_bad = ~np.isfinite(samples)
    if is_bad.any():
        n_bad = int(is_bad.any(axis=1).sum())
        track.losses.add(track.decoded_s, n_bad / rate, "is not made of numbers: silence stands for it")
    return silenced(samples)


def silenced(samples: Samples) -> Samples:
    """The samples, (n, n_channels); those that are no numbers become silence."""
    return np.where(np.isfinite(samples), samples, np.float32(0))
