"""
The decoder's keys and values: preallocated, by slot, with hard bounds.

A slot is the place of one session. Its self-attention part holds at most `n_text_ctx` tokens; its
cross-attention part holds the shared silence tail first and then at most `audio_capacity` positions of the
session's own window. Nothing here grows: an append past a bound raises and changes nothing, and only `set_length`
empties a slot. Lengths live on the host, so no decision ever waits for the device.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from model.dimensions import ModelDimensions

__all__ = ["CacheFullError", "Group", "KVCache", "Placement"]


class CacheFullError(ValueError):
    """A slot has fewer free positions than an append needs; nothing was written."""


@dataclass(frozen=True, slots=True)
class Group:
    """Rows of one pass that attend in one call: all of them, padded to the longest, or each by itself, unpadded."""

    rows: slice
    """Of the pass."""
    slots: slice | Tensor
    """Their slots as a selector of the cache's slot axis: a slice where they are consecutive, so reads are views."""
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


@dataclass(frozen=True, slots=True)
class Placement:
    """Where the new tokens of one decoder pass go, and what they may see; made by `KVCache.place`."""

    slots: tuple[int, ...]
    counts: tuple[int, ...]
    """New tokens of each row; rows are padded on the right to the longest."""
    positions: Tensor
    """(batch, n): position of each new token; padding repeats the row's last position."""
    written: tuple[Tensor, Tensor, Tensor]
    """Slot, position and flat (row * n + column) index of every real new token, each (n_written,)."""
    groups: tuple[Group, ...]
    """All rows, in order."""


class KVCache:
    """
    Keys and values of `n_slots` sessions.

    Args:
        dims: Shape of the network.
        n_slots: Sessions that can be held at once.
        audio_capacity: Positions of a session's own window, 1 to n_audio_ctx.
        tail: Cross-attention keys and values of cached silence, each (n_text_layer, n_text_head, n_tail, d_head),
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
        tail: tuple[Tensor, Tensor] | None = None,
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
        self.n_tail = 0 if tail is None else tail[0].shape[2]
        outer, inner = (dims.n_text_layer, n_slots, dims.n_text_head), dims.d_head
        # zeros, not empty: masked positions are multiplied by zero, and zero times a stray NaN is NaN
        self.keys = torch.zeros(*outer, dims.n_text_ctx, inner, dtype=dtype, device=device)
        self.values = torch.zeros_like(self.keys)
        self.audio_keys = torch.zeros(*outer, self.n_tail + audio_capacity, inner, dtype=dtype, device=device)
        self.audio_values = torch.zeros_like(self.audio_keys)
        if tail is not None:
            self.audio_keys[:, :, :, : self.n_tail] = tail[0][:, None]
            self.audio_values[:, :, :, : self.n_tail] = tail[1][:, None]
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
        return 2 * self.keys.nbytes, 2 * self.audio_keys.nbytes

    def set_length(self, slot: int, length: int) -> None:
        """
        Forget every token from position `length` on; 0 empties the slot.

        Raises:
            ValueError: `length` is negative or beyond what the slot holds.
        """
        if not 0 <= length <= self._lengths[slot]:
            raise ValueError(f"length {length} for slot {slot}: expected 0 to {self._lengths[slot]}")
        self._lengths[slot] = length

    def set_audio(self, slot: int, *parts: tuple[Tensor, Tensor]) -> None:
        """
        Replace what `slot` hears. Its tokens stay: whether they are still true is the caller's decision.

        Args:
            slot: The session's slot.
            parts: Keys and values of successive stretches of the window, each (n_text_layer, n_text_head, n, d_head);
                together at most `audio_capacity` positions.

        Raises:
            CacheFullError: The window is longer than `audio_capacity`; nothing was written.
        """
        n = sum(keys.shape[2] for keys, _ in parts)
        if n > self.audio_capacity:
            raise CacheFullError(f"window of {n} audio positions, a slot holds {self.audio_capacity}")
        at = self.n_tail
        for keys, values in parts:
            self.audio_keys[:, slot, :, at : at + keys.shape[2]] = keys
            self.audio_values[:, slot, :, at : at + keys.shape[2]] = values
            at += keys.shape[2]
        self._audio_lengths[slot] = n

    def place(self, slots: Sequence[int], counts: Sequence[int]) -> Placement:
        """
        Plan an append of `counts[i]` tokens to `slots[i]`. Writes nothing.

        Raises:
            ValueError: A slot is named twice, does not exist, or a count is below 1.
            CacheFullError: A slot has fewer free positions than its count; nothing was written.
        """
        self._check(slots, counts)
        starts = [self._lengths[slot] for slot in slots]
        columns = torch.arange(max(counts))
        last = torch.tensor([s + c - 1 for s, c in zip(starts, counts, strict=True)])[:, None]
        positions = torch.minimum(torch.tensor(starts)[:, None] + columns, last)
        flat = (columns < torch.tensor(counts)[:, None]).flatten().nonzero()[:, 0]
        slot_index = torch.tensor(slots).repeat_interleave(torch.tensor(counts))
        written = (slot_index, positions.flatten()[flat], flat)
        place = self.device
        together = [slice(i, i + 1) for i in range(len(slots))] if self.row_by_row else [slice(0, len(slots))]
        return Placement(
            slots=tuple(slots),
            counts=tuple(counts),
            positions=positions.to(place),
            written=(written[0].to(place), written[1].to(place), written[2].to(place)),
            groups=tuple(self._group(rows, slots[rows], counts[rows], positions[rows]) for rows in together),
        )

    def _group(self, rows: slice, slots: Sequence[int], counts: Sequence[int], positions: Tensor) -> Group:
        n, n_keys = max(counts), int(positions.max()) + 1
        hears = torch.tensor([self.n_tail + self._audio_lengths[slot] for slot in slots])
        n_audio_keys = int(hears.max())
        return Group(
            rows=rows,
            slots=_selector(slots, self.device),
            n=n,
            n_keys=n_keys,
            mask=self._mask(torch.arange(n_keys) > positions[:, :n, None]),
            n_audio_keys=n_audio_keys,
            audio_mask=self._mask((torch.arange(n_audio_keys) >= hears[:, None])[:, None]),
        )

    def append(self, layer: int, k: Tensor, v: Tensor, place: Placement) -> None:
        """
        Write the keys and values of one layer's new tokens.

        Lengths do not move here: `advance` moves them once per pass, after the last layer, so a pass that
        fails midway leaves the visible content of the cache unchanged.

        Args:
            layer: Decoder layer, 0 <= layer < n_text_layer.
            k: (batch, n_text_head, n, d_head).
            v: Same shape as `k`.
            place: From `place`, for the same rows.
        """
        slots, positions, flat = place.written
        self.keys[layer][slots, :, positions] = k.transpose(1, 2).flatten(0, 1)[flat].to(self.dtype)
        self.values[layer][slots, :, positions] = v.transpose(1, 2).flatten(0, 1)[flat].to(self.dtype)

    def text(self, layer: int, group: Group) -> tuple[Tensor, Tensor]:
        """Self-attention keys and values of one layer, each (rows, n_text_head, n_keys, d_head)."""
        keys, values = self.keys[layer], self.values[layer]
        return keys[:, :, : group.n_keys][group.slots], values[:, :, : group.n_keys][group.slots]

    def audio(self, layer: int, group: Group) -> tuple[Tensor, Tensor]:
        """Cross-attention keys and values of one layer, each (rows, n_text_head, n_audio_keys, d_head)."""
        keys, values = self.audio_keys[layer], self.audio_values[layer]
        return keys[:, :, : group.n_audio_keys][group.slots], values[:, :, : group.n_audio_keys][group.slots]

    def text_of(self, slot: int, n: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """
        A copy of the keys and values of the first `n` tokens of `slot`, each (n_text_layer, n_text_head, n, d_head).

        Raises:
            ValueError: The slot does not hold so many.
        """
        if not 0 <= n <= self._lengths[slot]:
            raise ValueError(f"{n} tokens of slot {slot}: expected 0 to {self._lengths[slot]}")
        return self.keys[:, slot, :, :n].to(dtype, copy=True), self.values[:, slot, :, :n].to(dtype, copy=True)

    def set_text(self, slot: int, keys: Tensor, values: Tensor) -> None:
        """
        Replace what `slot` has said by what `text_of` gave, or its beginning.

        Raises:
            CacheFullError: More than n_text_ctx tokens; nothing was written.
        """
        n = keys.shape[2]
        if n > self.dims.n_text_ctx:
            raise CacheFullError(f"{n} tokens, a slot holds n_text_ctx = {self.dims.n_text_ctx}")
        self.keys[:, slot, :, :n], self.values[:, slot, :, :n] = keys, values
        self._lengths[slot] = n

    def own_audio_keys(self, slot: int) -> Tensor:
        """Cross-attention keys of a session's own window, (n_text_layer, n_text_head, audio_length, d_head)."""
        return self.audio_keys[:, slot, :, self.n_tail : self.n_tail + self._audio_lengths[slot]]

    def advance(self, place: Placement) -> None:
        """Make the appended tokens visible."""
        for slot, count in zip(place.slots, place.counts, strict=True):
            self._lengths[slot] += count

    def _check(self, slots: Sequence[int], counts: Sequence[int]) -> None:
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
        mask = torch.zeros(hidden.shape, dtype=self.dtype).masked_fill_(hidden, float("-inf"))
        return mask[:, None].to(self.device)


def _selector(slots: Sequence[int], device: torch.device) -> slice | Tensor:
    first = slots[0]
    if list(slots) == list(range(first, first + len(slots))):
        return slice(first, first + len(slots))
    return torch.tensor(slots, device=device)
