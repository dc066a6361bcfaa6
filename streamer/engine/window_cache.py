"""
What the engine remembers of each session's window from one step to the next. Soft state, bounded.

Three things are known of a window that grows: what the encoder has settled of its sound, what the decoder's
cross-attention hears of that, and the keys and values of its text. The windows of at most `n_sessions` sessions and of
at most `n_bytes` are kept, and whoever was used least recently goes first. A window that is not known costs one pass
over all of it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from torch import Tensor

from model import EncodedAudio

BLOCK = 128
"""Positions by which the buffer of a window grows."""


class Remembered(Protocol):
    """What can be remembered of a window."""

    @property
    def n_bytes(self) -> int:
        """Held in memory."""


@dataclass(frozen=True, slots=True)
class KVSpan:
    """
    Keys and values of the first `n` positions of a window, in a buffer with capacity for more.

    `followed_by` writes into the free part of the same buffer, which the shorter span never reads. So one span may be
    continued twice, but only the later continuation is valid.
    """

    buffer: Tensor
    """(2, n_layer, n_head, n and more, d_head)"""
    n: int
    """Positions that are known."""

    @property
    def keys_values(self) -> Tensor:
        """(2, n_layer, n_head, n, d_head), a view."""
        return self.buffer[..., : self.n, :]

    def followed_by(self, new: Tensor) -> KVSpan:
        """The stretch with `new` (2, n_layer, n_head, n, d_head) behind it; moved only where the buffer ends."""
        n = self.n + new.shape[3]
        buffer = self.buffer
        if n > buffer.shape[3]:
            *outer, _, d_head = new.shape
            buffer = new.new_empty(*outer, -(-n // BLOCK) * BLOCK, d_head)
            buffer[..., : self.n, :] = self.keys_values
        buffer[..., self.n : n, :] = new
        return KVSpan(buffer, n)


@dataclass(frozen=True, slots=True)
class AudioKV:
    """The settled positions of one window, from its beginning."""

    encoder: KVSpan
    """Of the encoder's layers: what later sound attends to."""
    audio: KVSpan
    """Of the decoder's cross-attention."""

    @property
    def n(self) -> int:
        """Positions."""
        return self.encoder.n

    @property
    def n_bytes(self) -> int:
        """Held in memory."""
        return self.encoder.buffer.nbytes + self.audio.buffer.nbytes

    def followed_by(self, encoded: EncodedAudio, audio: Tensor, n: int) -> AudioKV:
        """The window with the first `n` of the positions that a pass computed after it."""
        return AudioKV(
            self.encoder.followed_by(encoded.keys_values[..., :n, :]), self.audio.followed_by(audio[..., :n, :])
        )


@dataclass(frozen=True, slots=True)
class TextKV:
    """The tokens of one window as the decoder has read them."""

    tokens: tuple[int, ...]
    """Prompt, start sequence and text."""
    keys_values: Tensor
    """Of the decoder's self-attention, (2, n_text_layer, n_text_head, n, d_head)."""

    @property
    def n_bytes(self) -> int:
        """Held in memory."""
        return self.keys_values.nbytes

    def n_shared(self, tokens: Sequence[int]) -> int:
        """Leading tokens that are the same."""
        pairs = enumerate(zip(self.tokens, tokens, strict=False))
        return next((i for i, (a, b) in pairs if a != b), min(len(self.tokens), len(tokens)))


T = TypeVar("T", bound=Remembered)


class WindowCache(Generic[T]):
    """
    Args:
        nothing: What is remembered of a window that is not known.
        n_sessions: Windows kept.
        most_bytes: Of all of them together; one alone may have more.
    """

    def __init__(self, nothing: T, n_sessions: int, most_bytes: int) -> None:
        self._nothing, self._n_sessions, self._most_bytes = nothing, n_sessions, most_bytes
        self._n_bytes = 0
        self._windows: OrderedDict[str, tuple[Hashable, T]] = OrderedDict()  # least recently used first

    @property
    def n_bytes(self) -> int:
        """Held for all sessions."""
        return self._n_bytes

    def of(self, session: str, name: Hashable | None) -> T:
        """What is known of the window of `session` under this name; nothing of any other."""
        known, window = self._windows.get(session, (None, self._nothing))
        return window if name is not None and name == known else self._nothing

    def keep(self, session: str, name: Hashable, window: T) -> None:
        """Remember a window in place of the session's last one."""
        self.release(session)
        self._windows[session] = (name, window)
        self._n_bytes += window.n_bytes
        while len(self._windows) > self._n_sessions or (self._n_bytes > self._most_bytes and len(self._windows) > 1):
            self.release(next(iter(self._windows)))

    def release(self, session: str) -> None:
        """The session is over."""
        _, window = self._windows.pop(session, (None, self._nothing))
        self._n_bytes -= window.n_bytes
