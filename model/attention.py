"""
Scaled dot-product attention, with its back end as an argument: no switch of the process, no state.

Each block of the network holds the name of its back end, so two networks in one process, or two layers of one network,
may use different ones at the same time.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = [
    "ATTENTION_BACKENDS",
    "AttentionBackend",
    "attend",
    "check_attention",
    "default_attention",
    "has_amx",
    "merge_heads",
    "split_heads",
]

AttentionBackend = Literal["fused", "efficient", "products"]
"""
`fused`: the kernel that torch chooses. `efficient`: on a GPU, the kernel that needs no plan for a new shape.
`products`: two matrix products and a softmax, on any device.
"""
ATTENTION_BACKENDS: tuple[AttentionBackend, ...] = get_args(AttentionBackend)
ALIGNED_KEYS = 8
"""The efficient kernel reads masks whose rows begin at multiples of this many keys."""
ALIGNED_BYTES = 16
"""The efficient kernel needs heads of a multiple of this many bytes."""


def check_attention(name: str, device: torch.device) -> AttentionBackend:
    """
    The attention back end of a name.

    Args:
        name: One of `ATTENTION_BACKENDS`.
        device: Where the network runs.

    Raises:
        ValueError: There is no back end of this name, or the device does not have it.
    """
    allowed = [backend for backend in ATTENTION_BACKENDS if backend != "efficient" or device.type != "cpu"]
    for backend in allowed:
        if backend == name:
            return backend
    raise ValueError(f"attention back end {name!r} on {device.type}: expected {' or '.join(allowed)}")


def default_attention(device: torch.device, dtype: torch.dtype) -> AttentionBackend:
    """
    The fastest attention back end for keys of this dtype on this device.

    On a GPU that is `efficient`. On a CPU without matrix tiles (AMX) the fused kernel runs at half its rate in
    bfloat16.
    """
    if device.type == "cuda":
        return "efficient"
    return "products" if dtype == torch.bfloat16 and not has_amx() else "fused"


def has_amx() -> bool:
    """Whether this CPU has bfloat16 matrix tiles (AMX); with them torch's fused attention is the fastest."""
    return bool(torch.cpu._is_amx_tile_supported())


def split_heads(x: Tensor, n_head: int) -> Tensor:
    """(batch, n, n_state) -> (batch, n_head, n, d_head), a view."""
    heads: Tensor = x.unflatten(-1, (n_head, -1))
    return heads.transpose(1, 2)


def merge_heads(x: Tensor) -> Tensor:
    """(batch, n_head, n, d_head) -> (batch, n, n_state)."""
    return x.transpose(1, 2).flatten(2)


def attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None = None,
    *,
    backend: AttentionBackend = "fused",
    recurring: bool = False,
) -> Tensor:
    """
    Scaled dot-product attention.

    Args:
        q: Queries, (batch, n_head, n, d_head).
        k: Keys, (batch, n_head, n_keys, d_head).
        v: Values, same shape as `k`.
        mask: Added to the scores, broadcastable to (batch, n_head, n, n_keys), in the dtype of `q`;
            None where every key is visible. Causal masks are explicit: `is_causal` of torch aligns to the upper left,
            which is wrong once the cache holds earlier tokens.
        backend: How it is computed; the results differ by rounding.
        recurring: Whether the same shapes return in many calls. On a GPU the fastest kernel is planned for each new
            shape, which takes as long as 500 attentions; `efficient` leaves its place to that kernel only here.

    Returns:
        (batch, n, n_state).

    Raises:
        ValueError: There is no such back end.
    """
    if backend == "products":
        return merge_heads(_by_products(q, k, v, mask))
    if backend == "efficient" and not recurring:
        return merge_heads(_efficient(q, k, v, mask))
    if backend != "fused":
        check_attention(backend, q.device)
    return merge_heads(F.scaled_dot_product_attention(q, k, v, attn_mask=mask))


def _by_products(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """Attention by matrix products, (batch, n_head, n, d_head); in bfloat16 the scores are rounded to bfloat16."""
    scores: Tensor = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)  # (batch, n_head, n, n_keys)
    if mask is not None:
        scores = scores + mask
    attended: Tensor = scores.softmax(-1) @ v  # (batch, n_head, n, d_head)
    return attended


def _efficient(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """
    Attention by torch's memory-efficient kernel, (batch, n_head, n, d_head).

    The kernel is called by its own name: torch's context manager for the choice of a kernel changes flags of the whole
    process. Heads that the kernel cannot read are multiplied plainly, as torch would.
    """
    check_attention("efficient", q.device)
    if q.shape[-1] * q.element_size() % ALIGNED_BYTES:
        return _by_products(q, k, v, mask)
    bias = None if mask is None else _aligned(mask).expand(*q.shape[:-1], k.shape[2])  # (batch, n_head, n, n_keys)
    attended: Tensor = torch.ops.aten._scaled_dot_product_efficient_attention(q, k, v, bias, False)[0]
    return attended


def _aligned(mask: Tensor) -> Tensor:
    """The same mask (..., n_keys), with rows that begin at multiples of `ALIGNED_KEYS`."""
    n_keys = mask.shape[-1]
    return F.pad(mask, (0, -n_keys % ALIGNED_KEYS))[..., :n_keys] if n_keys % ALIGNED_KEYS else mask
