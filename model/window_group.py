"""Windows that share one attention call per encoder layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from model.attention import AttentionBackend, attend
from model.silence import SilenceCache

__all__ = ["EncodedAudio", "Window", "WindowGroup", "alone", "of_like_length"]

SHORT = 6
"""log2 of a number of new positions: windows with fewer share one group."""
ALIGNED = 8
"""With a mask, fused attention on a GPU needs a number of keys that is a multiple of this."""


@dataclass(frozen=True, slots=True)
class EncodedAudio:
    """Encoder state of successive positions of one window, from one pass."""

    features: Tensor
    """Encoder output, (n, n_audio_state)"""
    keys_values: Tensor
    """(2, n_audio_layer, n_audio_head, n, d_head)"""


@dataclass(frozen=True, slots=True)
class Window:
    """The new positions of one window, after its settled ones."""

    mel: Tensor
    """Frames as for `AudioEncoder.extend`, (n_mels, n_frames)."""
    past: Tensor
    """Keys and values of the settled positions, (2, n_audio_layer, n_audio_head, n_settled, d_head)."""
    n: int
    """Number of new positions."""

    @property
    def start(self) -> int:
        """Number of settled positions; the first new one."""
        return self.past.shape[3]

    @property
    def end(self) -> int:
        """One past the last position."""
        return self.start + self.n


class WindowGroup:
    """
    Windows that share one attention call per layer, padded to the longest.

    The keys of a layer stand in one buffer: settled positions, new positions, silence. Only the new ones are written
    while the layers run.

    Args:
        windows: At least one.
        silence: Completes each window.
        first: Index of the group's first new position among those of all groups, padding counted.
    """

    def __init__(self, windows: Sequence[Window], silence: SilenceCache, first: int) -> None:
        self.windows, self._silence = windows, silence
        self.n = max(window.n for window in windows)
        """New positions of the longest window: each window is padded to this."""
        self._new = slice(first, first + self.n * len(windows))
        self._n_past = max(window.start for window in windows)
        self._n_silent = self._n_silent_keys()
        self._keys_values = self._new_buffer()  # (2, n_layer, n_windows, n_head, n_keys, d_head)
        self._mask = self._score_bias().to(windows[0].mel)[:, None, None]  # (n_windows, 1, 1, n_keys)

    @property
    def end(self) -> int:
        """One past the index of the group's last new position among those of all groups."""
        return self._new.stop

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, backend: AttentionBackend) -> Tensor:
        """
        Attention of the group's new positions to the settled ones, to themselves and to the silence.

        Args:
            layer: Encoder layer.
            q: Queries of the new positions of all groups, (n_audio_head, n_all, d_head).
            k: Their keys, same shape.
            v: Their values, same shape.
            backend: Of the layer.

        Returns:
            (n_windows * n, n_audio_state), padding included.
        """
        new = slice(self._n_past, self._n_past + self.n)
        keys, values = self._keys_values[:, layer]  # each (n_windows, n_head, n_keys, d_head)
        keys[:, :, new] = self._rows(k)
        values[:, :, new] = self._rows(v)
        rows = self._rows(q)  # (n_windows, n_head, n, d_head)
        attended = attend(rows, keys, values, self._mask, backend=backend)  # (n_windows, n, n_audio_state)
        return attended.flatten(0, 1)

    def encoded(self, features: Tensor) -> list[EncodedAudio]:
        """New positions of each window without padding, from the features of all groups, (n_all, n_audio_state)."""
        rows = features[self._new].unflatten(0, (-1, self.n))  # (n_windows, n, n_audio_state)
        return [
            EncodedAudio(
                features=rows[row, : window.n],  # (window.n, n_audio_state)
                keys_values=self._keys_values[:, :, row, :, self._n_past : self._n_past + window.n],
            )
            for row, window in enumerate(self.windows)
        ]

    def _rows(self, x: Tensor) -> Tensor:
        """(n_head, n_all, d_head) of all groups -> (n_windows, n_head, n, d_head) of this one, a view."""
        rows: Tensor = x[:, self._new].unflatten(1, (len(self.windows), self.n))
        return rows.transpose(0, 1)

    def _new_buffer(self) -> Tensor:
        """Keys and values before the first layer runs, (2, n_layer, n_windows, n_head, n_keys, d_head)."""
        silent, _ = self._silence.last(self._n_silent)  # (2, n_layer, n_head, n_silent, d_head)
        two, n_layer, n_head, _, d_head = silent.shape
        n_audio = self._n_past + self.n
        buffer = silent.new_empty(two, n_layer, len(self.windows), n_head, n_audio + self._n_silent, d_head)
        buffer[..., n_audio:, :] = silent[:, :, None]
        for row, window in enumerate(self.windows):
            buffer[:, :, row, :, : window.start] = window.past
            # masked, but must be finite: 0 * NaN is NaN
            buffer[:, :, row, :, window.start : self._n_past] = 0.0
        return buffer

    def _n_silent_keys(self) -> int:
        """Silence keys that the shortest window needs; with several windows aligned, and the mask hides the surplus."""
        n = self._silence.n_behind(min(window.end for window in self.windows))
        if len(self.windows) == 1:
            return n
        n_keys = self._n_past + self.n + n
        return min(n + -n_keys % ALIGNED, len(self._silence.positions))

    def _score_bias(self) -> Tensor:
        """Bias of the score of each key, -inf where it is hidden, (n_windows, n_keys), on the CPU."""
        # each (n_windows, 1)
        starts, ends, counts = (
            torch.tensor([each]).T for each in zip(*((w.start, w.end, w.n) for w in self.windows), strict=True)
        )
        _, log_weights = self._silence.last(self._n_silent)  # (n_silent,)
        silent = torch.tensor(self._silence.positions[len(self._silence.positions) - self._n_silent :])  # (n_silent,)
        hidden = torch.cat(
            [
                torch.arange(self._n_past) >= starts,  # (n_windows, n_past)
                torch.arange(self.n) >= counts,  # (n_windows, n)
                silent < ends,  # (n_windows, n_silent)
            ],
            dim=1,
        )
        return F.pad(log_weights, (self._n_past + self.n, 0)).masked_fill(hidden, -torch.inf)


def alone(windows: Sequence[Window]) -> list[list[int]]:
    """One group per window: indices of the windows of each group."""
    return [[number] for number in range(len(windows))]


def of_like_length(windows: Sequence[Window]) -> list[list[int]]:
    """Indices of the windows of each group: no window has more than twice the new positions of another of its group."""
    octaves: dict[int, list[int]] = {}
    for number, window in enumerate(windows):
        octaves.setdefault(max(SHORT, (window.n - 1).bit_length()), []).append(number)
    return list(octaves.values())
