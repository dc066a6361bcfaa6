"""Ragged batches: rows of different lengths stored one after the other, and their padding to equal lengths."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["padded_rows"]


def padded_rows(counts: Tensor, first: int, device: torch.device) -> tuple[slice | Tensor, Tensor | None]:
    """
    Index that pads rows of these lengths to the longest, and the index that undoes it.

    Args:
        counts: Length of each row, (n_rows,).
        first: Index of the first row's first item in the ragged batch, which may hold other rows before and after.
        device: Where the indices are needed.

    Returns:
        Selector of the padded rows' items in the ragged batch, (n_rows * longest,), padding repeats a row's last item;
        and the index of the real items in the padded rows, (n_items,). Where no row needs padding: a slice, and None.
    """
    n, n_items = int(counts.max()), int(counts.sum())
    if n_items == n * len(counts):
        return slice(first, first + n_items), None
    columns = torch.arange(n)
    firsts = first + counts.cumsum(0) - counts  # (n_rows,)
    items = firsts[:, None] + torch.minimum(columns, counts[:, None] - 1)  # (n_rows, n)
    real = (columns < counts[:, None]).flatten().nonzero()[:, 0]  # (n_items,)
    return items.flatten().to(device), real.to(device)
