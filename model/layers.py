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

__all__ = ["FeedForward", "LayerNorm", "Linear", "attend", "merge_heads", "pack", "sinusoids", "split_heads"]


class LayerNorm(nn.LayerNorm):
    """Layer normalisation over the last axis; statistics in float32, result in the input's dtype."""

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)


class Linear(nn.Linear):
    """
    A matrix product with bias, and after it GELU or the addition of a residual where asked.

    `pack` gives an instance its weight in the layout that oneDNN multiplies in. Otherwise that layout is made
    anew in every call, which for a few rows costs more than the product itself.
    """

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__(n_in, n_out)
        self.packed: Tensor | None = None

    def forward(self, x: Tensor, *, gelu: bool = False, residual: Tensor | None = None) -> Tensor:
        """(..., n_in) -> (..., n_out); `residual` has the shape of the result."""
        if self.packed is not None:
            return packed_product(x, self.packed, self.bias, gelu=gelu, residual=residual)
        product = F.linear(x, self.weight, self.bias)
        if residual is not None:
            return residual + product
        return F.gelu(product) if gelu else product


def packed_product(
    x: Tensor, packed: Tensor, bias: Tensor | None, *, gelu: bool = False, residual: Tensor | None = None
) -> Tensor:
    """`x` times a weight from `pack`, plus `bias`, then GELU or plus `residual`, in one kernel."""
    product: Tensor
    if residual is not None:
        product = torch.ops.mkldnn._linear_pointwise.binary(x, residual, packed, bias, "add")
    else:
        product = torch.ops.mkldnn._linear_pointwise(x, packed, bias, "gelu" if gelu else "none", [], "none")
    return product


def pack(weight: Tensor) -> Tensor | None:
    """
    A copy of a weight (n_out, n_in) in oneDNN's own layout, for `packed_product`.

    None where it would not help: only bfloat16 on a CPU that computes it goes through oneDNN. The operators are those
    that torch's compiler puts into the code it generates.
    """
    if weight.device.type != "cpu" or weight.dtype != torch.bfloat16 or not torch.backends.mkldnn.is_available():
        return None
    if not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return None
    packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight)
    return packed


class FeedForward(nn.Module):
    """The position-wise half of a residual block: normalise, widen four times, GELU, narrow, add."""

    def __init__(self, n_state: int) -> None:
        super().__init__()
        self.norm = LayerNorm(n_state)
        self.widen = Linear(n_state, 4 * n_state)
        self.narrow = Linear(4 * n_state, n_state)

    def forward(self, x: Tensor) -> Tensor:
        """(..., n_state) -> the same shape."""
        widened: Tensor = self.widen(self.norm(x), gelu=True)
        narrowed: Tensor = self.narrow(widened, residual=x)
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
