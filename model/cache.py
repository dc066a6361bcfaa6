"""
The decoder's KV cache: preallocated, one slot per row, with hard bounds.

The self-attention part of a slot holds at most `n_text_ctx` tokens. Its cross-attention part holds the shared silence
tail first, then at most `audio_capacity` positions of the row's own window. Nothing here grows: an append past a bound
raises and changes nothing, and only `set_length` empties a slot. Lengths live on the host, so no decision waits for the
device.
"""

from __future__ import annotations

import itertools
import math
import mmap
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from model.append_plan import AppendPlan, Group, Held, padded_group, selector, single_group
from model.dimensions import ModelDimensions

__all__ = ["CacheFullError", "KVCache"]


class CacheFullError(ValueError):
    """A slot has fewer free positions than an append needs; nothing was written."""


class KVCache:
    """
    Self-attention and cross-attention keys and values of `n_slots` rows.

    Args:
        dims: Shape of the network.
        n_slots: Rows that the cache holds at once.
        audio_capacity: Audio positions of a row's own window, 1 to n_audio_ctx.
        tail: Cross-attention keys and values of cached silence, (2, n_text_layer, n_text_head, n_tail, d_head),
            visible to every slot that hears a window; None for full windows.
        dtype: Of keys and values.
        device: Where the decoder's weights are.
        row_by_row: Use one attention call per row instead of one for all rows: nothing is padded, masked or gathered.

    Raises:
        ValueError: `n_slots` is below 1, `audio_capacity` is out of range, or `tail` has the wrong shape.
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
        self.n_tail = 0 if tail is None else self._length_of(tail)
        outer, inner = (2, dims.n_text_layer, n_slots, dims.n_text_head), dims.d_head
        # (2, n_text_layer, n_slots, n_text_head, n_text_ctx, d_head) and (…, n_tail + audio_capacity, d_head)
        self._text, text_pages = _zeros((*outer, dims.n_text_ctx, inner), dtype, self.device)
        self._audio, audio_pages = _zeros((*outer, self.n_tail + audio_capacity, inner), dtype, self.device)
        self._pages = [pages for pages in (text_pages, audio_pages) if pages]
        self.keys, self.values = self._text  # each (n_text_layer, n_slots, n_text_head, n_text_ctx, d_head)
        self.audio_keys, self.audio_values = self._audio
        self._tail = tail
        self._has_tail = [False] * n_slots
        self._lengths = [0] * n_slots
        self._audio_lengths = [0] * n_slots

    def length(self, slot: int) -> int:
        """Number of tokens visible in `slot`; raises ValueError if there is no such slot."""
        self._check_slot(slot)
        return self._lengths[slot]

    def audio_length(self, slot: int) -> int:
        """Number of audio positions visible in `slot` without the silence tail; ValueError if there is no such slot."""
        self._check_slot(slot)
        return self._audio_lengths[slot]

    def n_bytes(self) -> tuple[int, int]:
        """Bytes of the self-attention part, and of the cross-attention part with its silence: all slots full."""
        return self._text.nbytes, self._audio.nbytes + (0 if self._tail is None else self._tail.nbytes)

    def set_length(self, slot: int, length: int) -> None:
        """
        Truncate a slot to its first `length` tokens; 0 empties it.

        Raises:
            ValueError: There is no such slot, or `length` is negative or beyond what the slot holds.
        """
        self._check_slot(slot)
        if not 0 <= length <= self._lengths[slot]:
            raise ValueError(f"length {length} for slot {slot}: expected 0 to {self._lengths[slot]}")
        self._lengths[slot] = length

    def set_audio(self, slot: int, *parts: Tensor) -> None:
        """
        Replace the cross-attention keys and values of a slot. Its tokens stay; the caller decides if they still hold.

        Args:
            slot: Slot to write to.
            parts: Keys and values of successive parts of the window, each (2, n_text_layer, n_text_head, n, d_head);
                together at most `audio_capacity` positions.

        Raises:
            ValueError: There is no such slot, or a part has the wrong shape; nothing was written.
            CacheFullError: The window is longer than `audio_capacity`; nothing was written.
        """
        self._check_slot(slot)
        n = sum(self._length_of(part) for part in parts)
        if n > self.audio_capacity:
            raise CacheFullError(f"window of {n} audio positions: a slot holds at most {self.audio_capacity}")
        self._add_tail(slot)
        start = self.n_tail
        for part in parts:
            end = start + part.shape[3]
            self._audio[:, :, slot, :, start:end] = part  # (2, n_text_layer, n_text_head, n, d_head)
            start = end
        self._audio_lengths[slot] = n

    def copy_audio(self, source: int, target: int) -> None:
        """Give a slot the window of another one; ValueError if there is no such slot."""
        self._check_slot(source)
        end = self.n_tail + self._audio_lengths[source]
        self.set_audio(target, self._audio[:, :, source, :, self.n_tail : end])

    def _add_tail(self, slot: int) -> None:
        """Let a slot that is used for the first time hear silence; a slot that nobody uses takes no memory."""
        if self._tail is not None and not self._has_tail[slot]:
            self._audio[:, :, slot, :, : self.n_tail] = self._tail
            self._has_tail[slot] = True

    def plan_append(self, slots: Sequence[int], counts: Sequence[int]) -> AppendPlan:
        """
        Plan the append of `counts[i]` tokens to `slots[i]`. Writes no tokens.

        Raises:
            ValueError: A slot is named twice, does not exist, or a count is below 1.
            CacheFullError: A slot has fewer free positions than its count; nothing was written.
        """
        self.check(slots, counts)
        for slot in slots:
            self._add_tail(slot)
        starts = [self._lengths[slot] for slot in slots]
        positions = [p for start, count in zip(starts, counts, strict=True) for p in range(start, start + count)]
        slot_of = [slot for slot, count in zip(slots, counts, strict=True) for _ in range(count)]
        firsts = list(itertools.accumulate(counts, initial=0))  # index of each row's first token in the pass
        if self.row_by_row:
            groups = [self._single(*each) for each in zip(firsts, slots, counts, strict=False)]
        else:
            held = [self._held(slot) for slot in slots]
            groups = [padded_group(firsts[0], slots, counts, held, self.dtype, self.device)]
        return AppendPlan(
            slots=tuple(slots),
            counts=tuple(counts),
            written=torch.tensor(slot_of).to(self.device),  # (n_tokens,)
            positions=torch.tensor(positions).to(self.device),  # (n_tokens,)
            groups=tuple(groups),
            state=self._state(slots),
        )

    def _single(self, first: int, slot: int, n: int) -> Group:
        """The group of one row, with views of what it reads."""
        group = single_group(first, slot, n, self._held(slot), self.dtype, self.device)
        text = self._text[:, :, group.slots, :, : group.n_keys]
        return replace(group, views=(text, self._audio[:, :, group.slots, :, : group.n_audio_keys]))

    def append(self, layer: int, k: Tensor, v: Tensor, plan: AppendPlan) -> None:
        """
        Write the keys and values of one layer's new tokens.

        The tokens stay invisible until `advance`, which runs once per pass after the last layer. So a pass that fails
        midway leaves the visible content of the cache unchanged.

        Args:
            layer: Decoder layer, 0 <= layer < n_text_layer.
            k: New keys, (n_tokens, n_text_head, d_head), row after row.
            v: New values, same shape as `k`.
            plan: From `plan_append`, for the same rows.

        Raises:
            ValueError: The keys or values have the wrong shape, or the plan is not of this cache as it is now.
        """
        self.check_plan(plan)
        shape = (len(plan.positions), self.dims.n_text_head, self.dims.d_head)
        if k.shape != shape or v.shape != shape:
            raise ValueError(f"keys {tuple(k.shape)} and values {tuple(v.shape)}: expected {shape} for this plan")
        # two index tensors around a slice: the indexed axes come first, (n_tokens, n_text_head, d_head)
        self.keys[layer][plan.written, :, plan.positions] = k.to(self.dtype)
        self.values[layer][plan.written, :, plan.positions] = v.to(self.dtype)

    def text(self, layer: int, group: Group) -> tuple[Tensor, Tensor]:
        """Self-attention keys and values of one layer, each (n_rows, n_text_head, n_keys, d_head)."""
        if group.views is not None:
            keys, values = group.views[0][:, layer]
            return keys, values
        keys, values = self.keys[layer], self.values[layer]  # (n_slots, n_text_head, n_text_ctx, d_head)
        return keys[:, :, : group.n_keys][group.slots], values[:, :, : group.n_keys][group.slots]

    def audio(self, layer: int, group: Group) -> tuple[Tensor, Tensor]:
        """Cross-attention keys and values of one layer, each (n_rows, n_text_head, n_audio_keys, d_head)."""
        if group.views is not None:
            keys, values = group.views[1][:, layer]
            return keys, values
        keys, values = self.audio_keys[layer], self.audio_values[layer]  # (n_slots, n_text_head, n, d_head)
        return keys[:, :, : group.n_audio_keys][group.slots], values[:, :, : group.n_audio_keys][group.slots]

    def text_of(self, slot: int, n: int, dtype: torch.dtype) -> Tensor:
        """
        Copy the self-attention keys and values of a slot's first tokens.

        Args:
            slot: Slot to read.
            n: Tokens to copy, 0 to `length(slot)`.
            dtype: Of the copy.

        Returns:
            (2, n_text_layer, n_text_head, n, d_head).

        Raises:
            ValueError: There is no such slot, or it holds fewer than `n` tokens.
        """
        self._check_slot(slot)
        if not 0 <= n <= self._lengths[slot]:
            raise ValueError(f"{n} tokens of slot {slot}: expected 0 to {self._lengths[slot]}")
        return self._text[:, :, slot, :, :n].to(dtype, copy=True)

    def set_text(self, slot: int, keys_values: Tensor) -> None:
        """
        Replace the tokens of a slot by keys and values from `text_of`.

        Args:
            slot: Slot to write to.
            keys_values: (2, n_text_layer, n_text_head, n, d_head).

        Raises:
            ValueError: There is no such slot, or `keys_values` has the wrong shape; nothing was written.
            CacheFullError: More than n_text_ctx tokens; nothing was written.
        """
        self._check_slot(slot)
        n = self._length_of(keys_values)
        if n > self.dims.n_text_ctx:
            raise CacheFullError(f"{n} tokens: a slot holds at most n_text_ctx = {self.dims.n_text_ctx}")
        self._text[:, :, slot, :, :n] = keys_values  # (2, n_text_layer, n_text_head, n, d_head)
        self._lengths[slot] = n

    def own_audio_keys(self, layer: int, slots: Sequence[int], n: int) -> Tensor:
        """
        Cross-attention keys of the windows without the silence tail.

        Args:
            layer: Decoder layer.
            slots: Slots to read.
            n: Positions from the beginning of each window; beyond a window's end the keys mean nothing.

        Returns:
            (n_slots, n_text_head, n, d_head), of the slots asked for.
        """
        keys: Tensor = self.audio_keys[layer, :, :, self.n_tail : self.n_tail + n]  # of all slots
        return keys[selector(slots, self.device)]

    def advance(self, slots: Sequence[int], counts: Sequence[int]) -> None:
        """
        Make the `counts[i]` tokens appended to `slots[i]` visible.

        Raises:
            ValueError: A slot is named twice, does not exist, or a count is below 1.
            CacheFullError: A slot has fewer free positions than its count; no slot was advanced.
        """
        self.check(slots, counts)
        for slot, count in zip(slots, counts, strict=True):
            self._lengths[slot] += count

    def check(self, slots: Sequence[int], counts: Sequence[int]) -> None:
        """
        Check that `counts[i]` tokens can be appended to `slots[i]`.

        Raises:
            ValueError: A slot is named twice, does not exist, or a count is below 1.
            CacheFullError: A slot has fewer free positions than its count.
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

    def check_plan(self, plan: AppendPlan) -> None:
        """
        Check that the slots hold what they held when the plan was made: a plan serves one pass.

        Raises:
            ValueError: A slot was changed since, or does not exist here.
            CacheFullError: A slot has fewer free positions than its count.
        """
        if plan.state is None:
            return
        self.check(plan.slots, plan.counts)
        for slot, planned, found in zip(plan.slots, plan.state, self._state(plan.slots), strict=True):
            if planned != found:
                raise ValueError(
                    f"plan for slot {slot} with {planned[0]} tokens and {planned[1]} audio positions, it holds "
                    f"{found[0]} and {found[1]} now: make a new plan for each pass"
                )

    def clear(self) -> None:
        """Empty every slot and overwrite what it held: after a failed pass that may be NaN, which no mask hides."""
        self._text.zero_()
        self._audio[..., self.n_tail :, :].zero_()
        self._lengths = [0] * self.n_slots
        self._audio_lengths = [0] * self.n_slots

    def release(self) -> None:
        """Empty every slot; on a CPU the memory of what they held goes back to the system."""
        self._lengths = [0] * self.n_slots
        self._audio_lengths = [0] * self.n_slots
        if self._pages:
            self._has_tail = [False] * self.n_slots
        for pages in self._pages:
            pages.madvise(mmap.MADV_DONTNEED)  # they are zeros again when they are next touched

    def check_integrity(self) -> None:
        """
        Compare counters with content: lengths within bounds, every visible position written, all numbers finite.

        Reads the whole cache and waits for the device: for tests, and for a scheduler without work.

        Raises:
            RuntimeError: A counter or the content is wrong; the message names the slot and the numbers.
        """
        parts = (
            ("token", self._text, self._lengths, 0, self.dims.n_text_ctx),
            ("audio", self._audio, self._audio_lengths, self.n_tail, self.audio_capacity),
        )
        for name, keys_values, lengths, offset, capacity in parts:
            is_written = keys_values.ne(0).any(dim=-1).any(dim=3).all(dim=1).all(dim=0)  # (n_slots, n_positions)
            is_finite = keys_values.isfinite().flatten(3).all(dim=3).all(dim=1).all(dim=0)  # (n_slots,)
            for slot, length in enumerate(lengths):
                n_written = int(is_written[slot, offset : offset + max(0, length)].sum())
                if not 0 <= length == n_written <= capacity or not bool(is_finite[slot]):
                    raise RuntimeError(
                        f"slot {slot} counts {length} {name} positions, {n_written} of them are written, capacity is "
                        f"{capacity}, all numbers finite: {bool(is_finite[slot])}"
                    )

    def _state(self, slots: Sequence[int]) -> tuple[tuple[int, int], ...]:
        """Tokens and audio positions of each slot."""
        return tuple((self._lengths[slot], self._audio_lengths[slot]) for slot in slots)

    def _held(self, slot: int) -> Held:
        return self._lengths[slot], self.n_tail + self._audio_lengths[slot]

    def _check_slot(self, slot: int) -> None:
        if not 0 <= slot < self.n_slots:
            raise ValueError(f"slot {slot}: expected 0 to {self.n_slots - 1}")

    def _length_of(self, keys_values: Tensor) -> int:
        """Positions n of keys and values (2, n_text_layer, n_text_head, n, d_head); ValueError for another shape."""
        dims = self.dims
        outer, shape = (2, dims.n_text_layer, dims.n_text_head), tuple(keys_values.shape)
        if len(shape) != 5 or shape[:3] != outer or shape[4] != dims.d_head:
            raise ValueError(f"keys and values {shape}: expected {(*outer, 'n', dims.d_head)}")
        return shape[3]


def _zeros(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> tuple[Tensor, mmap.mmap | None]:
    """
    Zeros, not empty: masked positions are multiplied by zero, and zero times a stray NaN is NaN.

    On a CPU they are the pages of a mapping, which take no memory before they are written: most slots are never full.
    """
    if device.type != "cpu":
        return torch.zeros(shape, dtype=dtype, device=device), None
    n_bytes = math.prod(shape) * dtype.itemsize
    pages = mmap.mmap(-1, n_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    return torch.frombuffer(pages, dtype=dtype).view(shape), pages
