"""
Building blocks that encoder and decoder share.

Precision rule of this package: weights and activations are in the module's dtype; the statistics of layer
normalisation and of softmax are accumulated in float32 by the kernels called here, and the result comes back
in the input's dtype. There is one attention function, and its caller chooses by argument, never by a switch.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["FeedForward", "LayerNorm", "attend", "merge_heads", "sinusoids", "split_heads"]


class LayerNorm(nn.LayerNorm):
    """Layer normalisation over the last axis; statistics in float32, result in the input's dtype."""

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)


class FeedForward(nn.Module):
    """The position-wise half of a residual block: normalise, widen four times, GELU, narrow."""

    def __init__(self, n_state: int) -> None:
        super().__init__()
        self.norm = LayerNorm(n_state)
        self.widen = nn.Linear(n_state, 4 * n_state)
        self.narrow = nn.Linear(4 * n_state, n_state)

    def forward(self, x: Tensor) -> Tensor:
        """(..., n_state) -> the same shape, without the residual added."""
        hidden: Tensor = self.widen(self.norm(x))
        narrowed: Tensor = self.narrow(F.gelu(hidden))
        return narrowed


def split_heads(x: Tensor, n_head: int) -> Tensor:
    """(batch, n, n_state) -> (batch, n_head, n, d_head), a view."""
    heads: Tensor = x.unflatten(-1, (n_head, -1))
    return heads.transpose(1, 2)


def merge_heads(x: Tensor) -> Tensor:
    """(batch, n_head, n, d_head) -> (batch, n, n_state)."""
    return x.transpose(1, 2).flatten(2)


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """
    Scaled dot-product attention.

    Args:
        q: Queries, (batch, n_head, n, d_head).
        k: Keys, (batch, n_head, n_keys, d_head).
        v: Values, same shape as `k`.
        mask: Added to the scores, broadcastable to (batch, n_head, n, n_keys), in the dtype of `q`;
            None where every key is visible. Causality is always spelled out here: `is_causal` aligns to the
            upper left, which is wrong once the cache holds earlier tokens.

    Returns:
        (batch, n, n_state).
    """
    return merge_heads(F.scaled_dot_product_attention(q, k, v, attn_mask=mask))


def sinusoids(length: int, channels: int, max_timescale: float = 10_000.0) -> Tensor:
    """Sinusoidal position embedding of the encoder, (length, channels), float32: sines first, then cosines."""
    step = math.log(max_timescale) / (channels // 2 - 1)
    inverse_timescales = torch.exp(-step * torch.arange(channels // 2))
    angles = torch.arange(length)[:, None] * inverse_timescales[None, :]
    return torch.cat([angles.sin(), angles.cos()], dim=1)
