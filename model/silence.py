"""Silence, encoded once: what stands behind every short window."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass

from torch import Tensor

__all__ = ["SilenceCache"]


@dataclass(frozen=True, slots=True)
class SilenceCache:
    """
    One window of pure silence, encoded: what stands behind every short window.

    Neighbouring positions of silence have nearly the same keys and values, so one of `stride` stands for all of them,
    with log(stride) added to its score; the last positions, on which attention rests, are all kept.
    """

    keys_values: Tensor
    """(2, n_audio_layer, n_audio_head, n_kept, d_head)"""
    features: Tensor
    """Encoder output, (n_audio_ctx, n_audio_state)"""
    mel_value: float
    """The value of every mel entry of the silence: the floor that windows must share."""
    positions: tuple[int, ...]
    """Audio position of each kept key, rising."""
    log_weights: Tensor
    """Logarithm of how many positions each kept key stands for, (n_kept,), float32, on the CPU."""

    def n_behind(self, n: int) -> int:
        """Kept keys of positions [n, n_audio_ctx)."""
        return len(self.positions) - bisect_left(self.positions, n)

    def last(self, n_kept: int) -> tuple[Tensor, Tensor]:
        """The last so many kept, (2, n_audio_layer, n_audio_head, n_kept, d_head), and their log weights."""
        first = len(self.positions) - n_kept
        return self.keys_values[:, :, :, first:], self.log_weights[first:]
