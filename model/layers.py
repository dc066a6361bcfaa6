"""
Building blocks that encoder and decoder share.

Precision rule of this package: weights and activations are in the module's dtype; the statistics of layer
normalisation and of softmax are accumulated in float32 by the kernels called here, and the result comes back
in the input's dtype. In bfloat16 on a CPU without matrix tiles (AMX) the scores of the encoder are rounded before their
softmax; logits stay as near to float32 as the published implementation's (benchmarks/logit_difference.py). There is one
attention function, and its caller chooses by argument, never by a switch.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

__all__ = [
    "FeedForward",
    "LayerNorm",
    "Linear",
    "PackedWeight",
    "attend",
    "has_amx",
    "merge_heads",
    "pack",
    "sinusoids",
    "split_heads",
]

SMALL_BATCH = 8
"""Rows up to which products by halves are the faster ones."""
SMALLEST_PACKED = 2**16
"""Numbers of a weight from which it is laid out anew."""
STEPS_PER_OCTAVE = 8
"""Numbers of rows for which products are compiled, between a number and its double."""


class LayerNorm(nn.LayerNorm):
    """Layer normalisation over the last axis; statistics in float32, result in the input's dtype."""

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)


class Linear(nn.Linear):
    """
    A matrix product with bias, and after it GELU or the addition of a residual where asked.

    `pack` gives an instance its weight in the layouts that are multiplied fastest; `small_batch` says that products
    of a few rows, single tokens, are worth a layout of their own.
    """

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__(n_in, n_out)
        self.packed: PackedWeight | None = None

    def pack(self, *, small_batch: bool) -> None:
        """Lay the weight out anew, as it is now; the plain one goes, unless nothing is gained."""
        self.packed = pack(self.weight, self.bias, small_batch=small_batch)
        if self.packed is not None:
            self.weight = nn.Parameter(self.weight.new_empty(0), requires_grad=False)

    def forward(self, x: Tensor, *, gelu: bool = False, residual: Tensor | None = None) -> Tensor:
        """(..., n_in) -> (..., n_out); `residual` has the shape of the result."""
        if self.packed is not None:
            return self.packed(x, gelu=gelu, residual=residual)
        return _finished(F.linear(x, self.weight, self.bias), gelu=gelu, residual=residual)


class PackedWeight:
    """
    A copy of a weight and its bias, laid out for products on a CPU.

    Args:
        weight: (n_out, n_in), float32 or bfloat16.
        bias: (n_out,), or None.
        small_batch: Keep halves of the weight beside it for products of a few rows. Those wait for memory, and half the
            bytes are read in half the time; the numbers stay the same, since published weights are halves. Without
            effect for weights that are none.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, *, small_batch: bool) -> None:
        self._bias = bias
        # otherwise this layout is made anew in every call, which for a few rows costs more than the product itself
        self._blocked = torch.ops.mkldnn._reorder_linear_weight(weight)
        self._fp16 = (
            torch.ops.quantized.linear_prepack_fp16(weight, bias) if small_batch and _is_exact_in_fp16(weight) else None
        )

    def __call__(self, x: Tensor, *, gelu: bool = False, residual: Tensor | None = None) -> Tensor:
        """The product plus the bias, then GELU or plus `residual`."""
        n = x.numel() // x.shape[-1]
        if self._fp16 is not None and n <= SMALL_BATCH:
            product: Tensor = torch.ops.quantized.linear_dynamic_fp16(x, self._fp16)
            return _finished(product, gelu=gelu, residual=residual)
        n_compiled = compiled_rows(n)
        if n == n_compiled:
            return self._multiply(x, residual, gelu=gelu)
        rows = _padded(x, n_compiled)
        product = self._multiply(rows, None if residual is None else _padded(residual, n_compiled), gelu=gelu)
        return product[:n].view(*x.shape[:-1], -1)

    def _multiply(self, x: Tensor, residual: Tensor | None, *, gelu: bool) -> Tensor:
        """By the operators that torch's compiler puts into the code it generates: all in one kernel."""
        if residual is not None:
            product: Tensor = torch.ops.mkldnn._linear_pointwise.binary(x, residual, self._blocked, self._bias, "add")
        else:
            then = "gelu" if gelu else "none"
            product = torch.ops.mkldnn._linear_pointwise(x, self._blocked, self._bias, then, [], "none")
        return product


def compiled_rows(n: int) -> int:
    """
    Rows that a product of `n` rows is padded to: `n` itself if it is small, else less than an eighth more.

    oneDNN compiles a product for each number of rows, which takes as long as 30 products; steps of many streams
    have a different number each time.
    """
    step = max(1, (1 << n.bit_length() - 1) // STEPS_PER_OCTAVE)
    return -(-n // step) * step


def _padded(x: Tensor, n: int) -> Tensor:
    """(..., d) -> (n, d), zeros at the end."""
    rows = x.reshape(-1, x.shape[-1])
    return F.pad(rows, (0, 0, 0, n - rows.shape[0]))


def pack(weight: Tensor, bias: Tensor | None, *, small_batch: bool) -> PackedWeight | None:
    """
    See `PackedWeight`; None where there is nothing to gain.

    That is on other devices, for numbers that oneDNN does not compute on this CPU, and for weights so small that
    compiling a product for each number of rows takes longer than the products.
    """
    if weight.device.type != "cpu" or not torch.backends.mkldnn.is_available() or weight.numel() < SMALLEST_PACKED:
        return None
    if weight.dtype == torch.float32 or (
        weight.dtype == torch.bfloat16 and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    ):
        return PackedWeight(weight, bias, small_batch=small_batch)
    return None


def _is_exact_in_fp16(weight: Tensor) -> bool:
    """Whether a weight loses nothing in half precision, and this build of torch multiplies by halves."""
    if weight.dtype != torch.float32 or "fbgemm" not in torch.backends.quantized.supported_engines:
        return False
    return torch.equal(weight.half().float(), weight)


def _finished(product: Tensor, *, gelu: bool, residual: Tensor | None) -> Tensor:
    if residual is not None:
        return residual + product
    return F.gelu(product) if gelu else product


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


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, *, recurring: bool = False) -> Tensor:
    """
    Scaled dot-product attention.

    Args:
        q: Queries, (batch, n_head, n, d_head).
        k: Keys, (batch, n_head, n_keys, d_head).
        v: Values, same shape as `k`.
        mask: Added to the scores, broadcastable to (batch, n_head, n, n_keys), in the dtype of `q`;
            None where every key is visible. Causality is always spelled out here: `is_causal` aligns to the
            upper left, which is wrong once the cache holds earlier tokens.
        recurring: These shapes come again and again. On a GPU the fastest kernel is planned for each shape anew, which
            takes as long as 500 attentions; otherwise one is taken that takes any shape.

    Returns:
        (batch, n, n_state).
    """
    if q.dtype == torch.bfloat16 and q.device.type == "cpu" and not has_amx():
        return merge_heads(_attend_in_bfloat16(q, k, v, mask))
    if q.device.type == "cuda" and not recurring:
        with sdpa_kernel([SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]):
            return merge_heads(F.scaled_dot_product_attention(q, k, v, attn_mask=mask))
    return merge_heads(F.scaled_dot_product_attention(q, k, v, attn_mask=mask))


def _attend_in_bfloat16(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """The same by products: without tiles torch's fused kernel multiplies bfloat16 at half their rate."""
    scores: Tensor = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
    if mask is not None:
        scores = scores + mask
    attended: Tensor = scores.softmax(-1) @ v
    return attended


def has_amx() -> bool:
    """Whether this CPU multiplies tiles of bfloat16 (AMX), for which torch's fused attention is the fastest."""
    return bool(torch.cpu._is_amx_tile_supported())


def sinusoids(length: int, channels: int, max_timescale: float = 10_000.0) -> Tensor:
    """Sinusoidal position embedding of the encoder, (length, channels), float32: sines first, then cosines."""
    step = math.log(max_timescale) / (channels // 2 - 1)
    inverse_timescales = torch.exp(-step * torch.arange(channels // 2))
    angles = torch.arange(length)[:, None] * inverse_timescales[None, :]
    return torch.cat([angles.sin(), angles.cos()], dim=1)
