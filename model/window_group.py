"""Windows whose new positions attend in one call of the encoder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from model.layers import attend
from model.silence import SilenceCache

__all__ = ["EncodedAudio", "Window", "WindowGroup", "alone", "of_like_length"]

SHORT = 6
"""Binary logarithm of the number of new positions up to which windows are alike."""
ALIGNED = 8
"""A GPU's fused attention wants a multiple of so many keys beside a mask."""


@dataclass(frozen=True, slots=True)
class EncodedAudio:
    """Successive positions of one window as one pass left them."""

    features: Tensor
    """Encoder output, (n, n_audio_state)"""
    keys_values: Tensor
    """(2, n_audio_layer, n_audio_head, n, d_head)"""


@dataclass(frozen=True, slots=True)
class Window:
    """What follows the settled positions of one window."""

    mel: Tensor
    """As for `AudioEncoder.extend`."""
    past: Tensor
    """Keys and values of the settled positions, (2, n_audio_layer, n_audio_head, n_settled, d_head)."""
    n: int
    """New positions."""

    @property
    def start(self) -> int:
        """Settled positions."""
        return self.past.shape[3]

    @property
    def end(self) -> int:
        """One past the last position."""
        return self.start + self.n


class WindowGroup:
    """
    Windows that attend in one call, padded to the longest.

    What they attend to stands in one place for each layer: settled positions, new ones, the silence behind. Only the
    new ones are written while the layers run.

    Args:
        windows: At least one.
        silence: What stands behind each.
        first: Number of their first new position among those of all groups, padding counted.
    """

    def __init__(self, windows: Sequence[Window], silence: SilenceCache, first: int) -> None:
        self.windows, self._silence = windows, silence
        self.n = max(window.n for window in windows)
        """New positions of each window, padding counted."""
        self._new = slice(first, first + self.n * len(windows))
        self._n_past = max(window.start for window in windows)
        self._n_silent = self._n_silent_keys()
        self._known = self._laid_out()
        self._mask = self._hidden().to(windows[0].mel)[:, None, None]

    @property
    def end(self) -> int:
        """One past the number of their last new position."""
        return self._new.stop

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """
        New positions of the group over settled ones, themselves and the silence behind.

        Args:
            layer: Encoder layer.
            q, k, v: Of the new positions of all groups, (n_audio_head, n, d_head).

        Returns:
            (n_new, n_audio_state).
        """
        new = slice(self._n_past, self._n_past + self.n)
        keys, values = self._known[:, layer]
        keys[:, :, new] = self._rows(k)
        values[:, :, new] = self._rows(v)
        attended: Tensor = attend(self._rows(q), keys, values, self._mask)
        return attended.flatten(0, 1)

    def encoded(self, features: Tensor) -> list[EncodedAudio]:
        """What the layers left of each window's new positions; `features` are those of all groups."""
        rows = features[self._new].unflatten(0, (-1, self.n))
        places = [slice(self._n_past, self._n_past + window.n) for window in self.windows]
        return [
            EncodedAudio(rows[row, : window.n], self._known[:, :, row, :, place])
            for row, (window, place) in enumerate(zip(self.windows, places, strict=True))
        ]

    def _rows(self, x: Tensor) -> Tensor:
        """(n_head, positions of all groups, d_head) -> (windows, n_head, n, d_head), a view."""
        rows: Tensor = x[:, self._new].unflatten(1, (len(self.windows), self.n))
        return rows.transpose(0, 1)

    def _laid_out(self) -> Tensor:
        """Keys and values before the layers run, (2, n_layer, windows, n_head, n_keys, d_head)."""
        silent, _ = self._silence.last(self._n_silent)
        two, n_layer, n_head, _, d_head = silent.shape
        n_heard = self._n_past + self.n
        known = silent.new_empty(two, n_layer, len(self.windows), n_head, n_heard + self._n_silent, d_head)
        known[..., n_heard:, :] = silent[:, :, None]
        for row, window in enumerate(self.windows):
            known[:, :, row, :, : window.start] = window.past
            # hidden, but no number may stand there that is none: zero times that is none either
            known[:, :, row, :, window.start : self._n_past] = 0.0
        return known

    def _n_silent_keys(self) -> int:
        """What the window with the nearest end needs; of several windows some more, which the mask hides."""
        n = self._silence.n_behind(min(window.end for window in self.windows))
        if len(self.windows) == 1:
            return n
        n_keys = self._n_past + self.n + n
        return min(n + -n_keys % ALIGNED, len(self._silence.positions))

    def _hidden(self) -> Tensor:
        """What is added to the score of each key, (windows, n_keys), on the CPU."""
        starts, ends, counts = (
            torch.tensor([each]).T for each in zip(*((w.start, w.end, w.n) for w in self.windows), strict=True)
        )
        _, log_weights = self._silence.last(self._n_silent)
        behind = torch.tensor(self._silence.positions[len(self._silence.positions) - self._n_silent :])
        hidden = torch.cat(
            [torch.arange(self._n_past) >= starts, torch.arange(self.n) >= counts, behind < ends],
            dim=1,
        )
        return F.pad(log_weights, (self._n_past + self.n, 0)).masked_fill(hidden, -torch.inf)


def alone(windows: Sequence[Window]) -> list[list[int]]:
    """Groups of one."""
    return [[number] for number in range(len(windows))]


def of_like_length(windows: Sequence[Window]) -> list[list[int]]:
    """Numbers of the windows in groups, in which none has more than twice as many new positions as another."""
    octaves: dict[int, list[int]] = {}
    for number, window in enumerate(windows):
        octaves.setdefault(max(SHORT, (window.n - 1).bit_length()), []).append(number)
    return list(octaves.values())
