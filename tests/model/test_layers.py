"""model/layers.py"""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
import whisper.model
from torch import Tensor
from torch.testing import assert_close

from model.layers import (
    BlockedWeight,
    FeedForward,
    HalfWeight,
    LayerNorm,
    Linear,
    compiled_rows,
    is_exact_in_fp16,
    pack,
    sinusoids,
)


def normal(*shape: int, seed: int = 0) -> Tensor:
    """Seeded normal numbers."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_sinusoids_are_the_published_ones() -> None:
    """Same positions bit for bit, for a published width and a small one."""
    for length, channels in ((1500, 384), (7, 4)):
        assert torch.equal(sinusoids(length, channels), whisper.model.sinusoids(length, channels))


def test_layer_norm_keeps_its_statistics_in_float32() -> None:
    """
    In bfloat16, inputs far from zero are normalised as exactly as the result can be written.

    With a mean of 50, statistics rounded to bfloat16 would be off by tenths.
    """
    x = (50.0 + normal(6, 256)).bfloat16()
    norm = LayerNorm(256).bfloat16()

    result = norm(x)

    assert result.dtype == torch.bfloat16
    assert_close(result.double(), F.layer_norm(x.double(), (256,)), rtol=2**-8, atol=1e-4)


def test_feed_forward_is_the_published_block() -> None:
    """Normalise, widen, exact GELU, narrow, and add to what came in."""
    block = FeedForward(8)
    published = torch.nn.Sequential(block.norm, block.widen, torch.nn.GELU(), block.narrow)
    x = normal(2, 3, 8)

    assert torch.equal(block(x), x + published(x))


def packed_copy(linear: Linear) -> Linear:
    """The same product, laid out anew."""
    packed = Linear(linear.in_features, linear.out_features).to(linear.weight.dtype)
    packed.load_state_dict(linear.state_dict())
    packed.pack()
    assert packed.packed is not None
    return packed


multiplies_bfloat16 = pytest.mark.skipif(
    not torch.ops.mkldnn._is_mkldnn_bf16_supported(), reason="oneDNN has no bfloat16 products on this processor"
)


@pytest.mark.parametrize("dtype", [torch.float32, pytest.param(torch.bfloat16, marks=multiplies_bfloat16)], ids=str)
@pytest.mark.parametrize("n_rows", [1, 9, 19], ids=["a token", "a window", "a padded window"])
@pytest.mark.parametrize("after", ["nothing", "gelu", "residual"])
def test_packed_products_are_the_plain_ones(n_rows: int, after: str, dtype: torch.dtype) -> None:
    """Both are the product in float64, rounded: the packed one once, the plain one after each operation."""
    plain = Linear(384, 192).to(dtype).requires_grad_(False)
    x, residual = normal(2, n_rows, 384).to(dtype), normal(2, n_rows, 192, seed=1).to(dtype)
    product = F.linear(x.double(), plain.weight.double(), plain.bias.double())
    exact = {"nothing": product, "gelu": F.gelu(product), "residual": residual.double() + product}[after]

    def run(linear: Linear) -> Tensor:
        result: Tensor = linear(x, gelu=after == "gelu", residual=residual if after == "residual" else None)
        return result

    assert run(packed_copy(plain)).dtype == run(plain).dtype == dtype
    # half a step of the result's bits; the inner result's too where that is rounded, however small their sum
    step = 2**-7 if dtype == torch.bfloat16 else 2**-16
    half_steps = step / 2 * exact.abs() + step / 4
    assert ((run(packed_copy(plain)).double() - exact).abs() <= half_steps).all()
    assert ((run(plain).double() - exact).abs() <= half_steps + step / 2 * product.abs()).all()


def test_few_numbers_of_rows_are_compiled() -> None:
    """A number itself or less than an eighth more, small ones exactly, and those are their own."""
    rounded = {n: compiled_rows(n) for n in range(1, 2049)}

    assert all(n <= m < n * 9 / 8 for n, m in rounded.items())
    assert [rounded[n] for n in range(1, 16)] == list(range(1, 16))
    assert all(rounded[m] == m for m in rounded.values())
    assert len(set(rounded.values())) == 15 + 7 * 8 + 1


multiplies_halves = pytest.mark.skipif(
    not is_exact_in_fp16(torch.ones(1)), reason="torch has no products by fp16 on this processor"
)


@multiplies_halves
@pytest.mark.parametrize("n_rows", [1, 8, 40], ids=["a token", "a few", "a draft"])
@pytest.mark.parametrize("after", ["nothing", "gelu", "residual"])
def test_products_by_halves_lose_nothing(n_rows: int, after: str) -> None:
    """Weights that are halves give the products of the float32 that they are, few rows and many."""
    plain = Linear(384, 192).half().float().requires_grad_(False)
    x, residual = normal(2, n_rows, 384), normal(2, n_rows, 192, seed=1)
    asked: dict[str, Any] = {"gelu": after == "gelu", "residual": residual if after == "residual" else None}
    packed = packed_copy(plain)

    assert isinstance(packed.packed, HalfWeight)
    # sums of 384 products of about 1, added in another order
    assert_close(packed(x, **asked), plain(x, **asked), rtol=1e-5, atol=5e-6)


def test_weights_that_are_no_halves_keep_their_precision() -> None:
    """Half precision would change them."""
    assert isinstance(packed_copy(Linear(384, 192).requires_grad_(False)).packed, BlockedWeight)


def test_a_residual_is_left_as_it_is() -> None:
    """What is added is not written to: the caller may still need it."""
    linear = packed_copy(Linear(256, 256).requires_grad_(False))
    residual = normal(2, 3, 256)
    before = residual.clone()

    linear(normal(2, 3, 256, seed=1), residual=residual)

    assert torch.equal(residual, before)


def test_weights_that_gain_nothing_are_not_packed() -> None:
    """Half precision is multiplied as it lies, so are small weights, and one on a GPU is none of oneDNN's business."""
    assert pack(normal(256, 256).half(), None) is None
    assert pack(normal(255, 255), None) is None
    assert pack(torch.empty(256, 256, device="meta"), None) is None


def test_bfloat16_works_on_every_processor() -> None:
    """Where oneDNN has no such products the plain ones are taken."""
    linear = Linear(256, 256).bfloat16().requires_grad_(False)
    linear.pack()

    assert linear(normal(2, 256).bfloat16()).dtype == torch.bfloat16
