"""
What the encoder has settled of each session's window, so that a step computes only the newest sound.

Soft state, bounded: the windows of at most `n_sessions` sessions are kept, and whoever was used least recently goes
first. A window that is not known costs one pass over all of it, nothing else.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

import torch
from torch import Tensor

from model import EncodedAudio

Pair = tuple[Tensor, Tensor]
"""Keys and values, each (n_layer, n_head, n, d_head)."""


@dataclass(frozen=True, slots=True)
class SettledWindow:
    """The settled positions of one window, from its beginning."""

    encoder: Pair
    """Of the encoder's layers: what later sound attends to."""
    audio: Pair
    """Of the decoder's cross-attention."""

    @property
    def n(self) -> int:
        """Positions."""
        return self.encoder[0].shape[2]

    @property
    def n_bytes(self) -> int:
        """Held in memory."""
        return sum(tensor.nbytes for tensor in (*self.encoder, *self.audio))

    def followed_by(self, encoded: EncodedAudio, audio: Pair, n: int) -> SettledWindow:
        """The window with the first `n` of the positions that a pass computed after it."""
        return SettledWindow(
            _joined(self.encoder, (encoded.keys, encoded.values), n),
            _joined(self.audio, audio, n),
        )


class SettledWindows:
    """
    Args:
        nothing: A window without settled positions, in the shapes of the network.
        n_sessions: Windows kept.
    """

    def __init__(self, nothing: SettledWindow, n_sessions: int) -> None:
        self._nothing, self._n_sessions = nothing, n_sessions
        self._windows: OrderedDict[str, tuple[int, SettledWindow]] = OrderedDict()  # least recently used first

    @property
    def n_bytes(self) -> int:
        """Held for all sessions."""
        return sum(window.n_bytes for _, window in list(self._windows.values()))

    def of(self, session: str, start: int | None) -> SettledWindow:
        """What is settled of the window of `session` that begins at `start`; nothing of a window not known."""
        known_start, window = self._windows.get(session, (None, self._nothing))
        return window if start is not None and start == known_start else self._nothing

    def keep(self, session: str, start: int, window: SettledWindow) -> None:
        """Remember a window in place of the session's last one."""
        self._windows[session] = (start, window)
        self._windows.move_to_end(session)
        if len(self._windows) > self._n_sessions:
            self._windows.popitem(last=False)

    def release(self, session: str) -> None:
        """The session is over."""
        self._windows.pop(session, None)


def _joined(old: Pair, new: Pair, n: int) -> Pair:
    keys, values = (torch.cat([a, b[:, :, :n]], dim=2) for a, b in zip(old, new, strict=True))
    return keys, values
