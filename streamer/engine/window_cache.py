"""
Cached keys and values of each session's window between steps: bounded soft state with LRU eviction.

Of a growing window the engine caches the encoder's keys and values at settled positions, the decoder's cross-attention
keys and values at the same positions, and the self-attention keys and values of settled tokens. A `WindowCache` holds
one window per session within a number of sessions and of bytes. A window that is not cached costs one pass over all of
it.
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


class Cacheable(Protocol):
    """State of one window that a `WindowCache` can hold."""

    @property
    def n_bytes(self) -> int:
        """Bytes held in memory."""

    def check_integrity(self) -> None:
        """Raise RuntimeError where a count differs from what is held."""


@dataclass(frozen=True, slots=True)
class KVSpan:
    """
    Keys and values of the first `n` positions of a window, in a buffer with capacity for more.

    `followed_by` writes into the free part of the same buffer, which the shorter span never reads. So one span may be
    continued twice, but only the later continuation is valid.
    """

    buffer: Tensor
    """(2, n_layer, n_head, capacity, d_head), capacity >= n."""
    n: int
    """Positions that are valid."""

    @property
    def keys_values(self) -> Tensor:
        """(2, n_layer, n_head, n, d_head), a view."""
        return self.buffer[..., : self.n, :]

    def followed_by(self, new: Tensor) -> KVSpan:
        """This span continued by `new` (2, n_layer, n_head, n, d_head); copied only where the buffer is too short."""
        n = self.n + new.shape[3]
        buffer = self.buffer
        if n > buffer.shape[3]:
            *outer, _, d_head = new.shape
            buffer = new.new_empty(*outer, -(-n // BLOCK) * BLOCK, d_head)
            buffer[..., : self.n, :] = self.keys_values
        buffer[..., self.n : n, :] = new
        return KVSpan(buffer, n)

    def check_integrity(self) -> None:
        """
        Compare the count with the buffer.

        Raises:
            RuntimeError: More positions are counted than the buffer holds.
        """
        if not 0 <= self.n <= self.buffer.shape[3]:
            raise RuntimeError(f"span counts {self.n} positions, its buffer holds {self.buffer.shape[3]}")


@dataclass(frozen=True, slots=True)
class AudioKV:
    """Keys and values at the settled positions of one window, from its beginning."""

    encoder: KVSpan
    """Of the encoder's layers: later audio attends to them."""
    audio: KVSpan
    """Of the decoder's cross-attention."""
    n_whole: int
    """Audio positions of the window when it was last encoded whole."""

    @property
    def n(self) -> int:
        """Settled positions."""
        return self.encoder.n

    @property
    def n_bytes(self) -> int:
        """Bytes held in memory."""
        return self.encoder.buffer.nbytes + self.audio.buffer.nbytes

    def followed_by(self, encoded: EncodedAudio, audio: Tensor, n: int) -> AudioKV:
        """
        Settle the first `n` of the new positions of a pass.

        Args:
            encoded: Encoder state of the new positions.
            audio: Their cross-attention keys and values, (2, n_text_layer, n_text_head, n_new, d_head).
            n: New positions to settle, at most n_new.
        """
        encoder = self.encoder.followed_by(encoded.keys_values[..., :n, :])
        return AudioKV(encoder, self.audio.followed_by(audio[..., :n, :]), self.n_whole)

    def check_integrity(self) -> None:
        """
        Compare the counts of both spans.

        Raises:
            RuntimeError: They differ, or a span counts more positions than it holds.
        """
        self.encoder.check_integrity()
        self.audio.check_integrity()
        if self.encoder.n != self.audio.n:
            raise RuntimeError(f"{self.encoder.n} encoder positions, {self.audio.n} cross-attention positions")


@dataclass(frozen=True, slots=True)
class TextKV:
    """Self-attention keys and values of the settled tokens of one window."""

    tokens: tuple[int, ...]
    """Prompt, start sequence and settled prefix."""
    keys_values: Tensor
    """(2, n_text_layer, n_text_head, n, d_head)."""

    @property
    def n_bytes(self) -> int:
        """Bytes held in memory."""
        return self.keys_values.nbytes

    def check_integrity(self) -> None:
        """
        Compare the number of tokens with their keys and values.

        Raises:
            RuntimeError: They differ.
        """
        if len(self.tokens) != self.keys_values.shape[3]:
            raise RuntimeError(f"{len(self.tokens)} tokens, keys and values of {self.keys_values.shape[3]}")

    def n_shared(self, tokens: Sequence[int]) -> int:
        """Length of the common prefix with `tokens`."""
        pairs = enumerate(zip(self.tokens, tokens, strict=False))
        return next((i for i, (a, b) in pairs if a != b), min(len(self.tokens), len(tokens)))


T = TypeVar("T", bound=Cacheable)


class WindowCache(Generic[T]):
    """
    LRU cache of one window per session.

    Args:
        empty: State of a window that is not cached.
        n_sessions: Windows kept.
        most_bytes: Of all windows together; a single window may exceed it.
    """

    def __init__(self, empty: T, n_sessions: int, most_bytes: int) -> None:
        self._empty, self._n_sessions, self._most_bytes = empty, n_sessions, most_bytes
        self._n_bytes = 0
        self._windows: OrderedDict[str, tuple[Hashable, T]] = OrderedDict()  # least recently used first

    @property
    def n_bytes(self) -> int:
        """Bytes held for all sessions."""
        return self._n_bytes

    def of(self, session: str, name: Hashable | None) -> T:
        """State of the session's window if it has this name, otherwise `empty`; None names no window."""
        cached_name, window = self._windows.get(session, (None, self._empty))
        return window if name is not None and name == cached_name else self._empty

    def keep(self, session: str, name: Hashable, window: T) -> None:
        """
        Cache a window in place of the session's last one; evicts the least recently kept windows over the bounds.

        Args:
            session: Key of the session.
            name: `StepRequest.window`.
            window: State to cache.
        """
        self.release(session)
        self._windows[session] = (name, window)
        self._n_bytes += window.n_bytes
        while len(self._windows) > self._n_sessions or (self._n_bytes > self._most_bytes and len(self._windows) > 1):
            self.release(next(iter(self._windows)))

    def release(self, session: str) -> None:
        """Drop the session's window, if there is one."""
        _, window = self._windows.pop(session, (None, self._empty))
        self._n_bytes -= window.n_bytes

    def check_integrity(self) -> None:
        """
        Recompute the bytes held, and check the bounds and every window.

        Raises:
            RuntimeError: A count is wrong, or a bound is exceeded.
        """
        windows = [window for _, window in self._windows.values()]
        held = sum(window.n_bytes for window in windows)
        if held != self._n_bytes:
            raise RuntimeError(f"{self._n_bytes} bytes counted, {held} held by {len(windows)} windows")
        if len(windows) > self._n_sessions or (len(windows) > 1 and held > self._most_bytes):
            raise RuntimeError(
                f"{len(windows)} windows of {held} bytes: expected at most {self._n_sessions} of {self._most_bytes}"
            )
        for window in windows:
            window.check_integrity()
