"""
The vocabulary product on a CPU, screened: every logit in 8 bits, and again exactly where a token may be the likeliest.

The token embedding is most of what a decoder pass reads. In 8 bits it is a quarter as large, and its product takes half
to a third of the time, but no greedy choice may rest on it. So tokens near the likeliest one are multiplied once more
with the embedding itself: the choice is that of an exact product, and the rest is good enough for the sum under a
probability.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from model.layers import SMALLEST_PACKED
from model.rounding import has_products, packed_rows

__all__ = ["ScreenedVocabulary", "screen"]

NEAR = 5.0
"""Logits this far below a row's largest are computed again: a token below has at most 1/150 of its probability. The
8-bit product is off by 0.2 (standard deviation)."""
MOST_NEAR = 256
"""Candidates of a row, on average, that are computed again; where more are near, the likeliest `FEWER` of each row."""
FEWER = 64
STRIPES = 32
"""Parts of the vocabulary that are searched at once."""
LARGEST = 127
"""Of a weight in 8 bits."""
NARROWEST = 1e-6
"""Least width that a row is taken to have."""
NEVER = -1e30
"""Logit of padding, for a row of width 1."""


class ScreenedVocabulary:
    """
    Token embedding as weight of a product, in 8 bits and whole.

    Args:
        weight: Token embedding, (n_vocab, n_state), float32.
    """

    def __init__(self, weight: Tensor) -> None:
        half = weight.half()
        self.weight = half if torch.equal(half.float(), weight) else weight
        """The token embedding, (n_vocab, n_state), in fp16 where that is exact."""
        self._n_padding = -len(weight) % STRIPES
        self._packed = _packed(weight, self._n_padding)

    def __call__(self, hidden: Tensor) -> Tensor:
        """
        Logits of hidden states. Those of a row do not depend on the rows beside it.

        Args:
            hidden: (..., n_state), float32.

        Returns:
            (..., n_vocab), float32: exact within `NEAR` of a row's largest, within some tenths elsewhere.
        """
        rows = hidden.reshape(-1, hidden.shape[-1])
        logits = self._screened(rows)
        at, tokens = _near_the_largest(logits)  # each (n_candidates,)
        logits[at, tokens] = (rows[at] * self.weight[tokens]).sum(dim=1)
        return logits[:, : len(self.weight)].view(*hidden.shape[:-1], -1)

    def _screened(self, rows: Tensor) -> Tensor:
        """
        Product in 8 bits, (n, n_state) -> (n, n_vocab and padding).

        The kernel rounds all rows in steps of one size, that of the widest row. So each row is brought to the same
        width, -1 to 1, which two further columns without weight hold fixed.
        """
        widths = rows.abs().amax(dim=1, keepdim=True).clamp_min(NARROWEST)  # (n, 1)
        even = F.pad(rows / widths, (0, 2), value=1.0)
        even[:, -1] = -1.0
        product: Tensor = torch.ops.quantized.linear_dynamic.default(even, self._packed, reduce_range=True)
        return product.mul_(widths)


def screen(weight: Tensor) -> ScreenedVocabulary | None:
    """
    Pack a token embedding for screened products, or return None where that does not help or is not possible.

    It is possible on a CPU in float32, with a torch that has these kernels.

    Args:
        weight: (n_vocab, n_state).
    """
    is_screened = weight.numel() >= SMALLEST_PACKED and has_products(weight.device, weight.dtype)
    return ScreenedVocabulary(weight) if is_screened else None


def _packed(weight: Tensor, n_padding: int) -> object:
    """
    Weight of the kernel, (n_vocab, n_state) with two columns of zeros.

    Args:
        weight: (n_vocab, n_state).
        n_padding: Further rows, of tokens that are never the likeliest.
    """
    bias = torch.zeros(len(weight) + n_padding)
    bias[len(weight) :] = NEVER
    return packed_rows(F.pad(weight, (0, 2, 0, n_padding)), LARGEST, bias)


def _near_the_largest(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Row and column of each candidate of logits (n, STRIPES * n_stripe), each (n_candidates,)."""
    striped = logits.unflatten(1, (STRIPES, -1))  # (n, STRIPES, n_stripe)
    highest = striped.amax(dim=1)  # (n, n_stripe): of each token and those a stripe apart, a fraction of the logits
    least = highest.amax(dim=1) - NEAR  # (n,)
    at, column = (highest >= least[:, None]).nonzero(as_tuple=True)  # each (n_columns,)
    which, stripe = (striped[at, :, column] >= least[at, None]).nonzero(as_tuple=True)  # each (n_candidates,)
    if len(which) <= MOST_NEAR * len(logits):
        return at[which], stripe * striped.shape[2] + column[which]
    tokens = logits.topk(FEWER, dim=1).indices  # (n, FEWER)
    return torch.arange(len(logits)).repeat_interleave(FEWER), tokens.flatten()
