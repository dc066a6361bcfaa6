"""
The decoder's keys and values: preallocated, by slot, with hard bounds.

A slot is the place of one session. Its self-attention part holds at most `n_text_ctx` tokens; its
cross-attention part holds the shared silence tail first and then at most `audio_capacity` positions of the
session's own window. Nothing here grows: an append past a bound raises and changes nothing, and only `set_length`
empties a slot. Lengths live on the host, so no decision ever waits for the device.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from model.dimensions import ModelDimensions
from model.ragged import padded_rows

__all__ = ["AppendPlan", "CacheFullError", "Group", "KVCache", "hiding"]


class CacheFullError(ValueError):
    """A slot has fewer free positions than an append needs; nothing was written."""


@dataclass(frozen=True, slots=True)
class Group:
    """Rows of one pass that attend in one call: all of them, padded to the longest, or each by itself, unpadded."""

    tokens: slice | Tensor
    """Which tokens of the pass: a slice of rows of `n` each, or for padded rows an index (rows * n,), padding repeating
    the row's last token."""
    real: Tensor | None
    """Index into rows * n of what is no padding; None where nothing is padded."""
    slots: slice | Tensor
    """The rows' slots, a selector of the cache's slot axis: a slice where they are consecutive, so reads are views."""
    n: int
    """New tokens of the longest row."""
    n_keys: int
    """Self-attention keys to read: the longest row, after this pass."""
    mask: Tensor | None
    """(rows, 1, n, n_keys), added to the scores; None where everything is visible."""
    n_audio_keys: int
    """Cross-attention keys to read, the silence tail included."""
    audio_mask: Tensor | None
    """(rows, 1, 1, n_audio_keys); None where all rows hear equally long windows."""
    recurring: bool = False
    """Groups of these shapes come again and again: see `attend`."""


@dataclass(frozen=True, slots=True)
class AppendPlan:
    """Where the new tokens of one decoder pass go, and what they may see; made by `KVCache.plan_append`."""

    slots: tuple[int, ...]
    counts: tuple[int, ...]
    """New tokens of each row."""
    written: Tensor
    """Slot of each new token, row after row, (n_tokens,)."""
    positions: Tensor
    """Position of each, (n_tokens,)."""
    groups: tuple[Group, ...]
    """All rows, in order."""


class KVCache:
    """
    Keys and values of `n_slots` sessions.

    Args:
        dims: Shape of the network.
        n_slots: Sessions that can be held at once.
        audio_capacity: Positions of a session's own window, 1 to n_audio_ctx.
        tail: Cross-attention keys and values of cached silence, (2, n_text_layer, n_text_head, n_tail, d_head),
            visible to every slot; None for full windows.
        dtype: Of keys and values.
        device: As the decoder's weights.
        row_by_row: Let each row attend by itself: nothing is padded, masked or gathered, at one call for each row
            instead of one for all.
    """

    def __init__(
        self,
        dims: ModelDimensions,
        *,
        n_slots: int,
        audio_capacity: int,
        tail: Tensor | None = None,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
        row_by_row: bool = False,
    ) -> None:
        if n_slots < 1:
            raise ValueError(f"n_slots = {n_slots}: expected at least 1")
        if not 1 <= audio_capacity <= dims.n_audio_ctx:
            raise ValueError(f"audio_capacity = {audio_capacity}: expected 1 to {dims.n_audio_ctx}")
        self.dims, self.n_slots, self.audio_capacity = dims, n_slots, audio_capacity
        self.dtype, self.device = dtype, torch.device(device)
        self.row_by_row = row_by_row
        self.n_tail = 0 if tail is None else tail.shape[3]
        outer, inner = (2, dims.n_text_layer, n_slots, dims.n_text_head), dims.d_head
        # zeros, not empty: masked positions are multiplied by zero, and zero times a stray NaN is NaN
        self._text = torch.zeros(*outer, dims.n_text_ctx, inner, dtype=dtype, device=device)
        self._audio = torch.zeros(*outer, self.n_tail + audio_capacity, inner, dtype=dtype, device=device)
        self.keys, self.values = self._text
        self.audio_keys, self.audio_values = self._audio
        if tail is not None:
            self._audio[..., : self.n_tail, :] = tail[:, :, None]
        self._lengths = [0] * n_slots
        self._audio_lengths = [0] * n_slots

    def length(self, slot: int) -> int:
        """Tokens visible in `slot`."""
        return self._lengths[slot]

    def audio_length(self, slot: int) -> int:
        """Audio positions of the session's own window visible in `slot`, the tail not counted."""
        return self._audio_lengths[slot]

    def n_bytes(self) -> tuple[int, int]:
        """Allocated bytes: self-attention part, cross-attention part."""
        return self._text.nbytes, self._audio.nbytes

    def set_length(self, slot: int, length: int) -> None:
        """
        Forget every token from position `length` on; 0 empties the slot.

        Raises:
            ValueError: `length` is negative or beyond what the slot holds.
        """
        if not 0 <= length <= self._lengths[slot]:
            raise ValueError(f"length {length} for slot {slot}: expected 0 to {self._lengths[slot]}")
        self._lengths[slot] = length

    def set_audio(self, slot: int, *parts: Tensor) -> None:
        """
        Replace what `slot` n_audible. Its tokens stay: whether they are still true is the caller's decision.

        Args:
            slot: The session's slot.
            parts: Keys and values of successive stretches of the window, each
                (2, n_text_layer, n_text_head, n, d_head); together at most `audio_capacity` positions.

        Raises:
            CacheFullError: The window is longer than `audio_capacity`; nothing was written.
        """
        n = sum(part.shape[3] for part in parts)
        if n > self.audio_capacity:
            raise CacheFullError(f"window of {n} audio positions, a slot holds {self.audio_capacity}")
        at = self.n_tail
        for part in parts:
            self._audio[:, :, slot, :, at : at + part.shape[3]] = part
            at += part.shape[3]
        self._audio_lengths[slot] = n

    def plan_append(self, slots: Sequence[int], counts: Sequence[int]) -> AppendPlan:
        """
        Plan an append of `counts[i]` tokens to `slots[i]`. Writes nothing.

        Raises:
            ValueError: A slot is named twice, does not exist, or a count is below 1.
            CacheFullError: A slot has fewer free positions than its count; nothing was written.
        """
        self.check(slots, counts)
        starts = [self._lengths[slot] for slot in slots]
        positions = [p for start, count in zip(starts, counts, strict=True) for p in range(start, start + count)]
        slot_of = [slot for slot, count in zip(slots, counts, strict=True) for _ in range(count)]
        firsts = list(itertools.accumulate(counts, initial=0))
        together = [slice(i, i + 1) for i in range(len(slots))] if self.row_by_row else [slice(0, len(slots))]
        return AppendPlan(
            slots=tuple(slots),
            counts=tuple(counts),
            written=torch.tensor(slot_of).to(self.device),
            positions=torch.tensor(positions).to(self.device),
            groups=tuple(self._group(firsts[rows.start], slots[rows], counts[rows]) for rows in together),
        )

    def _group(self, first: int, slots: Sequence[int], counts: Sequence[int]) -> Group:
        """Of these rows, whose tokens begin with number `first` of the pass."""
        starts = torch.tensor([self._lengths[slot] for slot in slots])
        lengths = torch.tensor(counts)
        n = max(counts)
        positions = starts[:, None] + torch.minimum(torch.arange(n), lengths[:, None] - 1)
        n_keys = int(positions.max()) + 1
        n_audible = torch.tensor([self.n_tail + self._audio_lengths[slot] for slot in slots])
        n_audio_keys = int(n_audible.max())
        tokens, real = padded_rows(lengths, first, self.device)
        return Group(
            tokens=tokens,
            real=real,
            slots=_selector(slots, self.device),
            n=n,
            n_keys=n_keys,
            mask=self._mask(torch.arange(n_keys) > positions[:, :, None]),
            n_audio_keys=n_audio_keys,
            audio_mask=self._mask((torch.arange(n_audio_keys) >= n_audible[:, None])[:, None]),
        )

    def append(self, layer: int, k: Tensor, v: Tensor, plan: AppendPlan) -> None:
        """
        Write the keys and values of one layer's new tokens.

        Lengths do not move here: `advance` moves them once per pass, after the last layer, so a pass that
        fails midway leaves the visible content of the cache unchanged.

        Args:
            layer: Decoder layer, 0 <= layer < n_text_layer.
            k: (n_tokens, n_text_head, d_head), row after row.
            v: Same shape as `k`.
            plan: From `plan_append`, for the same rows.
        """
        self.keys[layer][plan.written, :, plan.positions] = k.to(self.dtype)
        self.values[layer][plan.written, :, plan.positions] = v.to(self.dtype)

    def text(self, layer: int, group: Group) -> tuple[Tensor, Tensor]:
        """Self-attention keys and values of one layer, each (rows, n_text_head, n_keys, d_head)."""
        keys, values = self.keys[layer], self.values[layer]
        return keys[:, :, : group.n_keys][group.slots], values[:, :, : group.n_keys][group.slots]

    def audio(self, layer: int, group: Group) -> tuple[Tensor, Tensor]:
        """Cross-attention keys and values of one layer, each (rows, n_text_head, n_audio_keys, d_head)."""
        keys, values = self.audio_keys[layer], self.audio_values[layer]
        return keys[:, :, : group.n_audio_keys][group.slots], values[:, :, : group.n_audio_keys][group.slots]

    def text_of(self, slot: int, n: int, dtype: torch.dtype) -> Tensor:
        """
        A copy of the keys and values of the first `n` tokens of `slot`, (2, n_text_layer, n_text_head, n, d_head).

        Raises:
            ValueError: The slot does not hold so many.
        """
        if not 0 <= n <= self._lengths[slot]:
            raise ValueError(f"{n} tokens of slot {slot}: expected 0 to {self._lengths[slot]}")
        return self._text[:, :, slot, :, :n].to(dtype, copy=True)

    def set_text(self, slot: int, keys_values: Tensor) -> None:
        """
        Replace what `slot` has said by what `text_of` gave, or its beginning.

        Raises:
            CacheFullError: More than n_text_ctx tokens; nothing was written.
        """
        n = keys_values.shape[3]
        if n > self.dims.n_text_ctx:
            raise CacheFullError(f"{n} tokens, a slot holds n_text_ctx = {self.dims.n_text_ctx}")
        self._text[:, :, slot, :, :n] = keys_values
        self._lengths[slot] = n

    def own_audio_keys(self, layer: int, slots: Sequence[int], n: int) -> Tensor:
        """Cross-attention keys of the first `n` positions of own windows, (slots, n_text_head, n, d_head)."""
        keys: Tensor = self.audio_keys[layer, :, :, self.n_tail : self.n_tail + n]
        return keys[_selector(slots, self.device)]

    def advance(self, slots: Sequence[int], counts: Sequence[int]) -> None:
        """Make appended tokens visible."""
        for slot, count in zip(slots, counts, strict=True):
            self._lengths[slot] += count

    def check(self, slots: Sequence[int], counts: Sequence[int]) -> None:
        """
        Whether `counts[i]` tokens can be appended to `slots[i]`.

        Raises:
            ValueError, CacheFullError: As `plan_append`.
        """
        if len(slots) != len(counts) or not slots:
            raise ValueError(f"{len(slots)} slots and {len(counts)} counts: expected as many, at least one")
        if len(set(slots)) != len(slots) or min(slots) < 0 or max(slots) >= self.n_slots:
            raise ValueError(f"slots {list(slots)}: expected distinct numbers from 0 to {self.n_slots - 1}")
        if min(counts) < 1:
            raise ValueError(f"counts {list(counts)}: expected at least one new token for each row")
        for slot, count in zip(slots, counts, strict=True):
            if self._lengths[slot] + count > self.dims.n_text_ctx:
                raise CacheFullError(
                    f"slot {slot} holds {self._lengths[slot]} tokens, {count} more pass n_text_ctx = "
                    f"{self.dims.n_text_ctx}"
                )

    def _mask(self, hidden: Tensor) -> Tensor | None:
        """(batch, n, n_keys) of hidden keys -> additive mask (batch, 1, n, n_keys), or None if nothing is hidden."""
        if not bool(hidden.any()):
            return None
        return hiding(hidden, self.dtype)[:, None].to(self.device)


def hiding(hidden: Tensor, dtype: torch.dtype) -> Tensor:
    """What is added to scores so that nobody sees the keys that are hidden; same shape."""
    return torch.zeros(hidden.shape, dtype=dtype, device=hidden.device).masked_fill_(hidden, -torch.inf)


def _selector(slots: Sequence[int], device: torch.device) -> slice | Tensor:
    first = slots[0]
    if list(slots) == list(range(first, first + len(slots))):
        return slice(first, first + len(slots))
    return torch.tensor(slots, device=device)
