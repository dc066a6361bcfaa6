"""
The plan of one decoder pass: where new tokens are written in the KV cache, and which keys each of them sees.

Nothing here reads or writes a cache: slots are numbers, and what they hold is told in counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from model.ragged import padded_rows

__all__ = ["AppendPlan", "Group", "Held", "hiding", "padded_group", "selector", "single_group"]

Held = tuple[int, int]
"""What a slot holds before the pass: tokens, and cross-attention keys with its silence tail."""


@dataclass(frozen=True, slots=True)
class Group:
    """Rows of one pass that share one attention call: all rows padded to the longest, or a single row unpadded."""

    tokens: slice | Tensor
    """Selects the group's tokens from the pass: a slice, or where rows are padded an index (n_rows * n,) in which
    padding repeats the row's last token."""
    real: Tensor | None
    """Index (n_tokens,) into n_rows * n of the tokens that are not padding; None where nothing is padded."""
    slots: slice | Tensor
    """Selects the rows' slots on the cache's slot axis: a slice where they are consecutive, so that reads are views."""
    n: int
    """New tokens of the longest row."""
    n_keys: int
    """Self-attention keys to read: tokens of the longest row after this pass."""
    mask: Tensor | None
    """(n_rows, 1, n, n_keys), added to the scores; None where every key is visible."""
    n_audio_keys: int
    """Cross-attention keys to read, silence tail included."""
    audio_mask: Tensor | None
    """(n_rows, 1, 1, n_audio_keys); None where all windows are equally long."""
    recurring: bool = False
    """Whether groups of these shapes return in many passes: see `attend`."""
    views: tuple[Tensor, Tensor] | None = None
    """Keys and values of all layers that the group reads, of its text and of its windows, each
    (2, n_text_layer, n_rows, n_text_head, n, d_head); None where they are gathered for each layer."""


@dataclass(frozen=True, slots=True)
class AppendPlan:
    """Where the new tokens of one decoder pass are written, and which keys they see; made by `KVCache.plan_append`."""

    slots: tuple[int, ...]
    """Slot of each row."""
    counts: tuple[int, ...]
    """New tokens of each row."""
    written: Tensor
    """Slot of each new token, row after row, (n_tokens,)."""
    positions: Tensor
    """Position of each new token in its slot, (n_tokens,)."""
    groups: tuple[Group, ...]
    """All rows, in order."""
    state: tuple[tuple[int, int], ...] | None
    """Tokens and audio positions that each slot held when the plan was made: it is good for no other state. None in a
    captured graph, whose positions are numbers on the device."""


def single_group(first: int, slot: int, n: int, held: Held, dtype: torch.dtype, device: torch.device) -> Group:
    """
    The group of one row.

    Args:
        first: Index of the row's first token in the pass.
        slot: Of the row.
        n: New tokens.
        held: By the slot.
        dtype: Of the scores.
        device: Where the masks are needed.
    """
    n_keys, n_audio_keys = held[0] + n, held[1]
    positions = torch.arange(n_keys - n, n_keys)[None, :, None]  # (1, n, 1)
    return Group(
        tokens=slice(first, first + n),
        real=None,
        slots=slice(slot, slot + 1),
        n=n,
        n_keys=n_keys,
        mask=None if n == 1 else _mask(torch.arange(n_keys) > positions, dtype, device),  # (1, 1, n, n_keys)
        n_audio_keys=n_audio_keys,
        audio_mask=None,
    )


def padded_group(
    first: int,
    slots: Sequence[int],
    counts: Sequence[int],
    held: Sequence[Held],
    dtype: torch.dtype,
    device: torch.device,
) -> Group:
    """
    The group of several rows, padded to the longest.

    Args:
        first: Index of the first row's first token in the pass.
        slots: Of the rows.
        counts: New tokens of each row.
        held: By each slot.
        dtype: Of the scores.
        device: Where indices and masks are needed.
    """
    starts, n_audible = (torch.tensor(each) for each in zip(*held, strict=True))  # each (n_rows,)
    lengths = torch.tensor(counts)  # (n_rows,)
    n = max(counts)
    positions = starts[:, None] + torch.minimum(torch.arange(n), lengths[:, None] - 1)  # (n_rows, n)
    n_keys, n_audio_keys = int(positions.max()) + 1, int(n_audible.max())
    inaudible = torch.arange(n_audio_keys) >= n_audible[:, None]  # (n_rows, n_audio_keys)
    tokens, real = padded_rows(lengths, first, device)
    return Group(
        tokens=tokens,
        real=real,
        slots=selector(slots, device),
        n=n,
        n_keys=n_keys,
        mask=_mask(torch.arange(n_keys) > positions[:, :, None], dtype, device),  # (n_rows, 1, n, n_keys)
        n_audio_keys=n_audio_keys,
        audio_mask=_mask(inaudible[:, None], dtype, device),  # (n_rows, 1, 1, n_audio_keys)
    )


def selector(slots: Sequence[int], device: torch.device) -> slice | Tensor:
    """Index of these slots: a slice where they are consecutive, otherwise a tensor (n_rows,)."""
    first = slots[0]
    if list(slots) == list(range(first, first + len(slots))):
        return slice(first, first + len(slots))
    return torch.tensor(slots, device=device)


def hiding(hidden: Tensor, dtype: torch.dtype) -> Tensor:
    """Additive attention mask: -inf where `hidden` is True, 0 elsewhere; same shape as `hidden`."""
    return torch.zeros(hidden.shape, dtype=dtype, device=hidden.device).masked_fill_(hidden, -torch.inf)


def _mask(hidden: Tensor, dtype: torch.dtype, device: torch.device) -> Tensor | None:
    """Hidden keys (n_rows, n, n_keys) -> additive mask (n_rows, 1, n, n_keys), or None if no key is hidden."""
    return hiding(hidden, dtype)[:, None].to(device) if bool(hidden.any()) else None
