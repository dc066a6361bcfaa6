"""
Dynamic time warping: the audio position at which each token begins, from the attention of the alignment heads.

Cross-attention of the alignment heads follows the speech. Their scores become a cost matrix of tokens by audio
positions, and the cheapest monotone path through it gives the start of each token. The path is computed row by row with
cumulative minima instead of cell by cell. A whole batch is computed at once on the device of the scores; only the
starts return to the host.

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
"""Audio positions."""
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


def alignment_cost(
    scores: Tensor, sizes: Sequence[tuple[int, int]], *, first_token: int = 0, first_position: int = 0
) -> Tensor:
    """
    Cost of each token at each audio position.

    Every token counts for the standard deviations, and every position for the softmax. Most of the work, the median
    filter, is done only for what is asked for.

    Args:
        scores: (batch, n_heads, n_tokens, n_positions), before softmax, without the silence tail.
        sizes: Number of tokens and of positions of each item, at least 1; the rest of the item is padding.
        first_token: Leave out the tokens before this one, which every item has.
        first_position: Leave out the positions before this one, which every item has.

    Returns:
        (batch, n_tokens - first_token, n_positions - first_position), float32. Lower is likelier; the padding of an
        item has no meaning.

    Raises:
        ValueError: There is no head, the sizes are not those of the items, or an item does not have what is first.
    """
    batch, n_heads, longest, widest = scores.shape
    if not n_heads or len(sizes) != batch or not all(1 <= n <= longest and 1 <= w <= widest for n, w in sizes):
        raise ValueError(
            f"sizes {list(sizes)} for scores {tuple(scores.shape)}: expected (1 to {longest}, 1 to {widest}) "
            f"for each of {batch} items, and at least one head"
        )
    if not all(0 <= first_token < n and 0 <= first_position < w for n, w in sizes):
        raise ValueError(f"first token {first_token}, first position {first_position}: expected some of {list(sizes)}")
    # each (batch,)
    n_tokens, n_positions = (torch.tensor(each).to(scores.device) for each in zip(*sizes, strict=True))
    is_past = torch.arange(scores.shape[3], device=scores.device) >= n_positions[:, None]  # (batch, n_positions)
    weights = scores.masked_fill(is_past[:, None, None], -torch.inf).softmax(dim=-1)
    context = min(first_position, _HALF)  # positions to the left that the filter reads
    weights = weights[..., first_position - context :]
    is_token = torch.arange(scores.shape[2], device=scores.device) < n_tokens[:, None]  # (batch, n_tokens)
    weights = _standardised(weights, is_token[:, None, :, None], n_tokens[:, None, None, None])[:, :, first_token:]
    filtered = median_filter(weights, [width - first_position + context for _, width in sizes])
    return -filtered[..., context:].mean(dim=1)  # (batch, n_tokens - first_token, n_positions - first_position)


def _standardised(weights: Tensor, is_token: Tensor, n_tokens: Tensor) -> Tensor:
    """Weights (batch, n_heads, n_tokens, n_positions) less their mean over an item's tokens, in standard deviations."""
    centred = weights - (weights * is_token).sum(dim=2, keepdim=True) / n_tokens
    variance = (centred.square() * is_token).sum(dim=2, keepdim=True) / n_tokens  # (batch, n_heads, 1, n_positions)
    return centred / variance.sqrt().clamp_min(1e-9)


def median_filter(x: Tensor, widths: Sequence[int]) -> Tensor:
    """
    Running median of seven over the last axis, with reflected edges. Items of at most three positions stay unfiltered.

    A sorting network over seven shifted views is ten times faster on a CPU than sorting seven values everywhere.

    Args:
        x: (batch, ..., n).
        widths: Positions of each item; the rest of its last axis is padding.

    Returns:
        Same shape as `x`; the padding of an item has no meaning.
    """
    n = x.shape[-1]
    if n <= _HALF or not x.numel():
        return x
    padded = _reflected(x, widths)  # (batch, ..., n + 6)
    seven = [padded[..., i : i + n] for i in range(MEDIAN_WIDTH)]  # each (batch, ..., n)
    for i, j in _EXCHANGES:
        seven[i], seven[j] = torch.minimum(seven[i], seven[j]), torch.maximum(seven[i], seven[j])
    short = [item for item, width in enumerate(widths) if width <= _HALF]
    if short:
        seven[_HALF][short] = x[short]
    return seven[_HALF]


def _reflected(x: Tensor, widths: Sequence[int]) -> Tensor:
    """(batch, ..., n) -> (batch, ..., n + 6): each item mirrored at its first and at its own last position."""
    padded = F.pad(x, (_HALF, _HALF))
    steps = torch.arange(1, _HALF + 1, device=x.device)  # (3,)
    padded[..., _HALF - steps] = padded[..., _HALF + steps]
    items = torch.arange(len(widths), device=x.device)[:, None]  # (batch, 1)
    last = torch.tensor(widths).to(x.device)[:, None] + _HALF - 1  # (batch, 1), in `padded`
    beyond, mirrored = last + steps, (last - steps).clamp_min(0)  # (batch, 3)
    by_position = padded.movedim(-1, 1)  # (batch, n + 6, ...), a view
    by_position[items, beyond] = by_position[items, mirrored]
    return padded


def monotone_starts(costs: Sequence[Tensor]) -> list[list[int]]:
    """
    First position of each token on the cheapest path that visits every token and every position in order.

    Args:
        costs: For each item its cost matrix, (n_tokens, n_positions), at least (1, 1).

    Returns:
        For each item the start of each token, non-decreasing, the first always 0.

    Raises:
        ValueError: There is no item, or one has no token or no position.
    """
    if not costs or not all(cost.ndim == 2 and cost.numel() for cost in costs):
        shapes = [tuple(cost.shape) for cost in costs]
        raise ValueError(f"costs of shapes {shapes}: expected at least one, each (n_tokens, n_positions) from (1, 1)")
    n = max(cost.shape[0] for cost in costs)
    width = max(cost.shape[1] for cost in costs)
    # a path ends in the last row and column of its own item, so padding never changes it; (batch, n, width)
    padded = torch.stack([F.pad(c, (0, width - c.shape[1], 0, n - c.shape[0])) for c in costs]).double()
    entries, stepped = _descend(padded)
    starts = _trace_back(entries, stepped, [(c.shape[0], c.shape[1]) for c in costs]).tolist()
    return [found[: cost.shape[0]] for found, cost in zip(starts, costs, strict=True)]


def _descend(cost: Tensor) -> tuple[Tensor, Tensor]:
    """
    Forward pass of the dynamic programme, one token at a time.

    Inside a row, total[j] = cost[j] + min(from_above[j], total[j - 1]); with running sums S that is
    S[j] + min over k <= j of (from_above[k] - S[k - 1]), a cumulative minimum.

    Args:
        cost: (batch, n_tokens, n_positions).

    Returns:
        For each cell the column at which its cheapest path entered the row, int64; and whether a path that enters the
        row at this cell comes diagonally, from one column to the left, and not straight from above, bool. Both
        (n_tokens, batch, n_positions).
    """
    batch, n, width = cost.shape
    above = cost.new_full((batch, width), torch.inf)
    diagonal = cost.new_full((batch, width), torch.inf)
    diagonal[:, 0] = 0.0
    entries, stepped = [], []
    for row in range(n):  # every tensor in the loop is (batch, n_positions)
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
    """Follow each path from the last cell of its item to the first: the starts, (batch, n_tokens)."""
    # each (batch,)
    n_tokens, n_positions = (torch.tensor(each).to(entries.device) for each in zip(*sizes, strict=True))
    column = n_positions - 1
    starts = []
    for row in range(entries.shape[0] - 1, -1, -1):
        entry = entries[row].gather(1, column[:, None])  # (batch, 1)
        step = stepped[row].gather(1, entry)[:, 0] & (entry[:, 0] > 0)  # (batch,)
        starts.append(entry[:, 0])
        # rows past an item's last token do not move its path
        column = torch.where(row < n_tokens, entry[:, 0] - step.long(), column)
    return torch.stack(starts[::-1], dim=1)
