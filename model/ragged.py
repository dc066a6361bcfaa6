"""Rows of different lengths, one after the other, and how some of them are padded to attend in one call."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["padded_rows"]


def padded_rows(counts: Tensor, first: int, device: torch.device) -> tuple[slice | Tensor, Tensor | None]:
    """
    How rows of these lengths are padded to the longest.

    Args:
        counts: Length of each row.
        first: Number of the first row's first item among the items of all rows, these and others.
        device: Where the rows are.

    Returns:
        Which of all items the padded rows hold, padding repeating the row's last; and an index into rows * longest of
        what is no padding, None where nothing is padded.
    """
    n, n_new = int(counts.max()), int(counts.sum())
    if n_new == n * len(counts):
        return slice(first, first + n_new), None
    columns = torch.arange(n)
    firsts = first + counts.cumsum(0) - counts
    held = firsts[:, None] + torch.minimum(columns, counts[:, None] - 1)
    real = (columns < counts[:, None]).flatten().nonzero()[:, 0]
    return held.flatten().to(device), real.to(device)
