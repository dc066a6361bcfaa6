"""Cached encoder state of silence, which completes every short window to 30 s."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass

from torch import Tensor

__all__ = ["SilenceCache"]


@dataclass(frozen=True, slots=True)
class SilenceCache:
    """
    Encoder keys, values and features of one full window of silence.

    Neighbouring positions of silence have nearly the same keys and values. So one key of every `stride` is kept, and
    log(stride) is added to its score; of the last positions, which attention favours, every key is kept.
    """

    keys_values: Tensor
    """(2, n_audio_layer, n_audio_head, n_kept, d_head)"""
    features: Tensor
    """Encoder output, (n_audio_ctx, n_audio_state)"""
    mel_value: float
    """Value of every mel entry of the silence; windows must be clamped at the same floor."""
    positions: tuple[int, ...]
    """Audio position of each kept key, ascending."""
    log_weights: Tensor
    """Logarithm of the number of positions that each kept key represents, (n_kept,), float32, on the CPU."""

    def n_behind(self, n: int) -> int:
        """Number of kept keys at positions [n, n_audio_ctx)."""
        return len(self.positions) - bisect_left(self.positions, n)

    def last(self, n_kept: int) -> tuple[Tensor, Tensor]:
        """The last `n_kept` keys and values, (2, n_audio_layer, n_audio_head, n_kept, d_head), and log weights."""
        first = len(self.positions) - n_kept
        return self.keys_values[:, :, :, first:], self.log_weights[first:]
