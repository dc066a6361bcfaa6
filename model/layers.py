"""
Layers that encoder and decoder share: layer norm, packed linear products, feed-forward.

Precision rule of this package: weights and activations are in the module's dtype; the statistics of layer
normalisation and of softmax are accumulated in float32 by the kernels called here, and the result is in the input's
dtype. In bfloat16 on a CPU without matrix tiles (AMX) attention scores are rounded to bfloat16 before their softmax;
logits stay as near to float32 as the published implementation's (benchmarks/logit_difference.py).
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.rounding import RoundedWeight

__all__ = [
    "BlockedWeight",
    "FeedForward",
    "HalfWeight",
    "LayerNorm",
    "Linear",
    "im2col",
    "is_exact_in_fp16",
    "pack",
    "sinusoids",
]

SMALLEST_PACKED = 2**16
"""Fewest elements of a weight that is worth packing."""
STEPS_PER_OCTAVE = 8
"""Compiled row counts between a power of two and the next."""


class LayerNorm(nn.LayerNorm):
    """Layer normalisation over the last axis; statistics in float32, result in the input's dtype."""

    def forward(self, x: Tensor) -> Tensor:
        """(..., n_state) -> the same shape."""
        return F.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)


class Linear(nn.Linear):
    """
    Linear layer with an optional GELU, or addition of a residual, fused into the product.

    `pack` replaces the weight by a layout that multiplies faster on a CPU, `round_off` by one in 8 bits.
    """

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__(n_in, n_out)
        self.packed: HalfWeight | BlockedWeight | RoundedWeight | None = None

    @property
    def is_rounded(self) -> bool:
        """Whether the weight is in 8 bits."""
        return isinstance(self.packed, RoundedWeight)

    def round_off(self) -> None:
        """Replace the weight by one in 8 bits, see `RoundedWeight`, and free the original."""
        self.packed = RoundedWeight(self.weight, self.bias)
        self.weight = nn.Parameter(self.weight.new_empty(0), requires_grad=False)

    def pack(self) -> None:
        """Replace the weight by a layout that multiplies faster, see `pack`, and free the original."""
        self.packed = pack(self.weight, self.bias)
        if self.packed is not None:
            self.weight = nn.Parameter(self.weight.new_empty(0), requires_grad=False)

    def forward(self, x: Tensor, *, gelu: bool = False, residual: Tensor | None = None) -> Tensor:
        """
        Product plus bias, then GELU or plus `residual`.

        Args:
            x: (..., n_in).
            gelu: Apply GELU to the result.
            residual: Added to the result, (..., n_out); excludes `gelu`.

        Returns:
            (..., n_out).
        """
        if isinstance(self.packed, BlockedWeight):
            return self.packed(x, gelu=gelu, residual=residual)
        product: Tensor = F.linear(x, self.weight, self.bias) if self.packed is None else self.packed(x)
        if residual is not None:
            return product.add_(residual)
        return F.gelu(product) if gelu else product


class HalfWeight:
    """
    A weight and its bias for matrix products on a CPU: the weight in fp16, in which checkpoints are published.

    The products are those of float32: half the bytes are read and widened on the way.

    Args:
        weight: (n_out, n_in), float32, `is_exact_in_fp16`.
        bias: (n_out,), or None.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        self._packed = torch.ops.quantized.linear_prepack_fp16(weight, bias)

    def __call__(self, x: Tensor) -> Tensor:
        """Product plus bias, (..., n_in) -> (..., n_out)."""
        product: Tensor = torch.ops.quantized.linear_dynamic_fp16.default(x, self._packed)
        return product


class BlockedWeight:
    """
    A weight and its bias in oneDNN's blocked layout, for matrix products on a CPU.

    Args:
        weight: (n_out, n_in), float32 or bfloat16.
        bias: (n_out,), or None.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        self._bias = bias
        # without this oneDNN reorders the weight in every call, which for few rows costs more than the product
        self._blocked = torch.ops.mkldnn._reorder_linear_weight(weight)

    def __call__(self, x: Tensor, *, gelu: bool = False, residual: Tensor | None = None) -> Tensor:
        """
        Product plus bias, then GELU or plus `residual`.

        Args:
            x: (..., n_in).
            gelu: Apply GELU to the result.
            residual: Added to the result, (..., n_out); excludes `gelu`.

        Returns:
            (..., n_out).
        """
        n = x.numel() // x.shape[-1]
        n_compiled = compiled_rows(n)
        if n == n_compiled:
            return self._multiply(x, residual, gelu=gelu)
        rows = _padded(x, n_compiled)
        product = self._multiply(rows, None if residual is None else _padded(residual, n_compiled), gelu=gelu)
        return product[:n].view(*x.shape[:-1], -1)

    def _multiply(self, x: Tensor, residual: Tensor | None, *, gelu: bool) -> Tensor:
        """One fused kernel, by the operators that torch.compile generates: (n, n_in) -> (n, n_out)."""
        if residual is not None:
            product: Tensor = torch.ops.mkldnn._linear_pointwise.binary(x, residual, self._blocked, self._bias, "add")
        else:
            then = "gelu" if gelu else "none"
            product = torch.ops.mkldnn._linear_pointwise.default(x, self._blocked, self._bias, then, [], "none")
        return product


def compiled_rows(n: int) -> int:
    """
    Rows to which a product of `n` rows is padded: `n` itself if it is small, else less than an eighth more.

    oneDNN compiles a kernel for each number of rows, which takes as long as 30 products. Steps of many sessions have a
    different number of rows each time.
    """
    step = max(1, (1 << n.bit_length() - 1) // STEPS_PER_OCTAVE)
    return -(-n // step) * step


def _padded(x: Tensor, n: int) -> Tensor:
    """(..., d) -> (n, d), zeros at the end."""
    rows = x.reshape(-1, x.shape[-1])
    return F.pad(rows, (0, 0, 0, n - rows.shape[0]))


def pack(weight: Tensor, bias: Tensor | None) -> HalfWeight | BlockedWeight | None:
    """
    Pack a weight for products on a CPU, or return None where packing does not help.

    It does not help on other devices, for a dtype that oneDNN does not support on this CPU, and for weights so small
    that compiling a kernel for each number of rows takes longer than the products.

    Args:
        weight: (n_out, n_in).
        bias: (n_out,), or None.
    """
    if weight.device.type != "cpu" or weight.numel() < SMALLEST_PACKED:
        return None
    if is_exact_in_fp16(weight):
        return HalfWeight(weight, bias)
    multiplies = weight.dtype == torch.float32 or (
        weight.dtype == torch.bfloat16 and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    )
    return BlockedWeight(weight, bias) if multiplies and torch.backends.mkldnn.is_available() else None


def is_exact_in_fp16(weight: Tensor) -> bool:
    """Whether fp16 holds a float32 weight (n_out, n_in) exactly, and this build of torch multiplies by such weights."""
    if weight.dtype != torch.float32 or "fbgemm" not in torch.backends.quantized.supported_engines:
        return False
    return torch.equal(weight.half().float(), weight)


class FeedForward(nn.Module):
    """Feed-forward part of a residual block: layer norm, widen four times, GELU, narrow, add."""

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


def im2col(x: Tensor, *, stride: int) -> Tensor:
    """
    Input windows of a convolution over three frames, zeros past the ends: the convolution becomes a matrix product.

    Args:
        x: (batch, n, d).
        stride: Frames from one window to the next.

    Returns:
        (batch, ceil(n / stride), 3 * d), a strided view of a padded copy.
    """
    batch, n, d = x.shape
    padded = F.pad(x, (0, 0, 1, 1)).contiguous()  # (batch, n + 2, d)
    return padded.as_strided((batch, -(-n // stride), 3 * d), ((n + 2) * d, stride * d, 1))


def sinusoids(length: int, channels: int, max_timescale: float = 10_000.0) -> Tensor:
    """
    Sinusoidal position embedding of the encoder.

    Args:
        length: Positions.
        channels: Width, even, at least 4.
        max_timescale: Longest period, in units of 2 pi positions.

    Returns:
        (length, channels), float32: sines first, then cosines.
    """
    step = math.log(max_timescale) / (channels // 2 - 1)
    # on the CPU by name: as meta tensors, while a network is built, these two import torch's compiler, which takes 2 s
    inverse_timescales = torch.exp(-step * torch.arange(channels // 2, device="cpu"))
    angles = torch.arange(length, device="cpu")[:, None] * inverse_timescales[None, :]  # (length, channels // 2)
    return torch.cat([angles.sin(), angles.cos()], dim=1)
