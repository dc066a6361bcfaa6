"""
What the engine remembers of each session's window from one step to the next. Soft state, bounded.

Three things are known of a window that grows: what the encoder has settled of its sound, what the decoder's
cross-attention hears of that, and the keys and values of its text. The windows of at most `n_sessions` sessions are
kept, and whoever was used least recently goes first. A window that is not known costs one pass over all of it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import torch
from torch import Tensor

from model import EncodedAudio

Pair = tuple[Tensor, Tensor]
"""Keys and values, each (n_layer, n_head, n, d_head)."""


class Remembered(Protocol):
    """What can be remembered of a window."""

    @property
    def n_bytes(self) -> int:
        """Held in memory."""


@dataclass(frozen=True, slots=True)
class SettledSound:
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

    def followed_by(self, encoded: EncodedAudio, audio: Pair, n: int) -> SettledSound:
        """The window with the first `n` of the positions that a pass computed after it."""
        return SettledSound(
            _joined(self.encoder, (encoded.keys, encoded.values), n),
            _joined(self.audio, audio, n),
        )


@dataclass(frozen=True, slots=True)
class ReadText:
    """The tokens of one window as the decoder has read them."""

    tokens: tuple[int, ...]
    """Prompt, start sequence and text."""
    text: Pair
    """Of the decoder's self-attention."""

    @property
    def n_bytes(self) -> int:
        """Held in memory."""
        return sum(tensor.nbytes for tensor in self.text)

    def n_shared(self, tokens: Sequence[int]) -> int:
        """Leading tokens that are the same."""
        pairs = enumerate(zip(self.tokens, tokens, strict=False))
        return next((i for i, (a, b) in pairs if a != b), min(len(self.tokens), len(tokens)))


T = TypeVar("T", bound=Remembered)


class WindowMemory(Generic[T]):
    """
    Args:
        nothing: What is remembered of a window that is not known.
        n_sessions: Windows kept.
    """

    def __init__(self, nothing: T, n_sessions: int) -> None:
        self._nothing, self._n_sessions = nothing, n_sessions
        self._windows: OrderedDict[str, tuple[Hashable, T]] = OrderedDict()  # least recently used first

    @property
    def n_bytes(self) -> int:
        """Held for all sessions."""
        return sum(window.n_bytes for _, window in list(self._windows.values()))

    def of(self, session: str, name: Hashable | None) -> T:
        """What is known of the window of `session` under this name; nothing of any other."""
        known, window = self._windows.get(session, (None, self._nothing))
        return window if name is not None and name == known else self._nothing

    def keep(self, session: str, name: Hashable, window: T) -> None:
        """Remember a window in place of the session's last one."""
        self._windows[session] = (name, window)
        self._windows.move_to_end(session)
        if len(self._windows) > self._n_sessions:
            self._windows.popitem(last=False)

    def release(self, session: str) -> None:
        """The session is over."""
        self._windows.pop(session, None)


def _joined(old: Pair, new: Pair, n: int) -> Pair:
    keys, values = (torch.cat([a, b[:, :, :n]], dim=2) for a, b in zip(old, new, strict=True))
    return keys, values
