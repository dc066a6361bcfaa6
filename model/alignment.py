"""
From the attention of the alignment heads to the time at which each token is spoken.

Cross-attention of a few heads follows the speech. Their scores become a cost matrix, tokens by audio positions,
and the cheapest monotone path through it says where each token begins. The path is found row by row with
running minima instead of cell by cell. Everything is done for a whole batch at once, on the device of the scores; only
the starts come back.

Source: openai/whisper timing.py for the normalisation (softmax over sounding positions, standardise over tokens,
median filter of seven positions, mean over heads, dynamic time warping).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["alignment_cost", "median_filter", "monotone_starts"]

MEDIAN_WIDTH = 7
"""Positions."""
_HALF = MEDIAN_WIDTH // 2

_EXCHANGES = (
    (0, 5),
    (0, 3),
    (1, 6),
    (2, 4),
    (0, 1),
    (3, 5),
    (2, 6),
    (2, 3),
    (3, 6),
    (4, 5),
    (1, 4),
    (1, 3),
    (3, 4),
)
"""Compare-exchange pairs after which element 3 of seven is their median (Devillard 1998, opt_med7)."""


def alignment_cost(scores: Tensor, sizes: Sequence[tuple[int, int]]) -> Tensor:
    """
    Cost of saying each token at each position.

    Args:
        scores: (batch, n_heads, n_tokens, n_positions), before softmax, sounding positions only.
        sizes: Tokens and positions of each item, from 1; what lies past them is padding.

    Returns:
        (batch, n_tokens, n_positions), float32; lower is likelier, and past an item's own size it means nothing.
    """
    n_tokens, n_positions = (torch.tensor(each).to(scores.device) for each in zip(*sizes, strict=True))
    silent = torch.arange(scores.shape[3], device=scores.device) >= n_positions[:, None]
    weights = scores.masked_fill(silent[:, None, None], -torch.inf).softmax(dim=-1)
    said = torch.arange(scores.shape[2], device=scores.device) < n_tokens[:, None]
    weights = _standardised(weights, said[:, None, :, None], n_tokens[:, None, None, None])
    return -median_filter(weights, [width for _, width in sizes]).mean(dim=1)


def _standardised(weights: Tensor, said: Tensor, n_tokens: Tensor) -> Tensor:
    """Less the mean over the tokens that are said, in standard deviations."""
    centred = weights - (weights * said).sum(dim=2, keepdim=True) / n_tokens
    variance = (centred.square() * said).sum(dim=2, keepdim=True) / n_tokens
    return centred / variance.sqrt().clamp_min(1e-9)


def median_filter(x: Tensor, widths: Sequence[int]) -> Tensor:
    """
    Running median of seven over the last axis, edges reflected; an item itself where it is too short for that.

    A sorting network over seven shifted views: ten times faster on a CPU than sorting seven values everywhere.

    Args:
        x: (batch, ..., n).
        widths: Of each item: its last axis ends there, and what lies behind means nothing.
    """
    n = x.shape[-1]
    if n <= _HALF or not x.numel():
        return x
    padded = _reflected(x, widths)
    seven = [padded[..., i : i + n] for i in range(MEDIAN_WIDTH)]
    for i, j in _EXCHANGES:
        seven[i], seven[j] = torch.minimum(seven[i], seven[j]), torch.maximum(seven[i], seven[j])
    short = [item for item, width in enumerate(widths) if width <= _HALF]
    if short:
        seven[_HALF][short] = x[short]
    return seven[_HALF]


def _reflected(x: Tensor, widths: Sequence[int]) -> Tensor:
    """(batch, ..., n) -> (batch, ..., n + 6): each item mirrored at its first and at its own last place."""
    padded = F.pad(x, (_HALF, _HALF))
    steps = torch.arange(1, _HALF + 1, device=x.device)
    padded[..., _HALF - steps] = padded[..., _HALF + steps]
    items = torch.arange(len(widths), device=x.device)[:, None]
    last = torch.tensor(widths).to(x.device)[:, None] + _HALF - 1
    beyond, mirrored = last + steps, (last - steps).clamp_min(0)
    by_place = padded.movedim(-1, 1)
    by_place[items, beyond] = by_place[items, mirrored]
    return padded


def monotone_starts(costs: Sequence[Tensor]) -> list[list[int]]:
    """
    First position of each token on the cheapest path that visits every token and every position in order.

    Args:
        costs: For each item its cost matrix, (n_tokens, n_positions), at least (1, 1).

    Returns:
        For each item the start of each token, non-decreasing, the first always 0.
    """
    n = max(cost.shape[0] for cost in costs)
    width = max(cost.shape[1] for cost in costs)
    # a path ends in the last row and column of its own item: what lies past them never reaches it
    padded = torch.stack([F.pad(c, (0, width - c.shape[1], 0, n - c.shape[0])) for c in costs]).double()
    entries, stepped = _descend(padded)
    starts = _trace_back(entries, stepped, [(c.shape[0], c.shape[1]) for c in costs]).tolist()
    return [found[: cost.shape[0]] for found, cost in zip(starts, costs, strict=True)]


def _descend(cost: Tensor) -> tuple[Tensor, Tensor]:
    """
    Cheapest sums row by row.

    Inside a row, total[j] = cost[j] + min(from_above[j], total[j - 1]); with running sums S that is
    S[j] + min over k <= j of (from_above[k] - S[k - 1]), a cumulative minimum.

    Args:
        cost: (batch, n_tokens, n_positions).

    Returns:
        For each cell the column where its path entered the row, and for each cell whether an entry there came
        diagonally (from one column left) rather than straight from above; both (n_tokens, batch, n_positions).
    """
    batch, n, width = cost.shape
    above = cost.new_full((batch, width), torch.inf)
    diagonal = cost.new_full((batch, width), torch.inf)
    diagonal[:, 0] = 0.0
    entries, stepped = [], []
    for row in range(n):
        steps = diagonal <= above
        arrival = torch.minimum(diagonal, above)
        sums = cost[:, row].cumsum(dim=-1)
        best, entry = torch.cummin(arrival - (sums - cost[:, row]), dim=-1)
        above = sums + best
        diagonal = F.pad(above[:, :-1], (1, 0), value=torch.inf)
        entries.append(entry)
        stepped.append(steps)
    return torch.stack(entries), torch.stack(stepped)


def _trace_back(entries: Tensor, stepped: Tensor, sizes: Sequence[tuple[int, int]]) -> Tensor:
    """From the last cell of each item to its first: the starts, (batch, n_tokens)."""
    n_tokens, n_positions = (torch.tensor(each).to(entries.device) for each in zip(*sizes, strict=True))
    at = n_positions - 1
    starts = []
    for row in range(entries.shape[0] - 1, -1, -1):
        entry = entries[row].gather(1, at[:, None])
        step = stepped[row].gather(1, entry)[:, 0] & (entry[:, 0] > 0)
        starts.append(entry[:, 0])
        # rows past an item's last one leave its path where it is
        at = torch.where(row < n_tokens, entry[:, 0] - step.long(), at)
    return torch.stack(starts[::-1], dim=1)
