"""
Products in 8 bits on a CPU: weights rounded by output, activations by row.

Where there are neither matrix tiles nor products of bfloat16, products of bytes take 1.4 to 1.8 times less time than
those of float32.
"""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

__all__ = ["RoundedWeight", "has_products", "packed_rows"]

LARGEST = 89
"""
Of a rounded weight, and of an activation in the steps of its row.

The kernel adds two products of a weight and a byte, at most 2 * LARGEST, in 16 bits with a sign.
"""
SMALLEST_STEP = 1e-8
"""Least size of the steps of a row."""


class RoundedWeight:
    """
    A weight and its bias for products in 8 bits. The product of a row does not depend on the rows beside it.

    Args:
        weight: (n_out, n_in), float32.
        bias: (n_out,), or None.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        self._packed = packed_rows(weight, LARGEST)
        self._bias = weight.new_zeros(len(weight)) if bias is None else bias

    def __call__(self, x: Tensor) -> Tensor:
        """Product plus bias, (..., n_in) -> (..., n_out)."""
        # of all reductions that find the largest value, this one alone is fast on a CPU
        step = x.abs().amax(dim=-1, keepdim=True).div_(LARGEST).clamp_min_(SMALLEST_STEP)  # (..., 1)
        # the kernel rounds all rows in steps of one size: each row is brought to steps of 1
        product: Tensor = torch.ops.quantized.linear_with_input_q_dq_qweight_dq_output_fp32.default(
            x / step, 1.0, LARGEST, self._packed
        )
        return torch.addcmul(self._bias, product, step)


def has_products(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether this torch has products in 8 bits for weights of a dtype on a device: in float32 on a CPU."""
    names = ("linear_dynamic", "linear_with_input_q_dq_qweight_dq_output_fp32")
    has_kernels = hasattr(torch, "quantize_per_channel") and all(hasattr(torch.ops.quantized, name) for name in names)
    return (
        device.type == "cpu"
        and dtype == torch.float32
        and has_kernels
        and "fbgemm" in torch.backends.quantized.supported_engines
    )


def packed_rows(weight: Tensor, largest: int, bias: Tensor | None = None) -> object:
    """
    Weight of the kernel, each row in steps of its own size.

    Args:
        weight: (n_out, n_in), float32.
        largest: Of a rounded weight, at most 127.
        bias: (n_out,), or None.
    """
    steps = weight.abs().amax(dim=1).clamp_min(torch.finfo(weight.dtype).tiny) / largest  # (n_out,)
    zeros = torch.zeros(len(weight), dtype=torch.int64)
    with warnings.catch_warnings():
        # torch announces that tensors of this kind will go; the kernels are there as long as they are
        warnings.simplefilter("ignore", UserWarning)
        rounded = torch.quantize_per_channel(weight, steps, zeros, axis=0, dtype=torch.qint8)
        return torch.ops.quantized.linear_prepack(rounded, bias)
