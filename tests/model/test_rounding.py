"""model/rounding.py"""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.testing import assert_close

from model.layers import Linear
from model.rounding import RoundedWeight, has_products

N_IN, N_OUT = 384, 192
pytestmark = pytest.mark.skipif(
    not has_products(torch.device("cpu"), torch.float32), reason="torch has no 8-bit products on this processor"
)


def normal(*shape: int, seed: int = 0) -> Tensor:
    """Seeded normal numbers."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def rounded() -> tuple[RoundedWeight, Tensor, Tensor]:
    """A weight in 8 bits, and the same weight and bias in float32; the outputs are of very different sizes."""
    weight = normal(N_OUT, N_IN, seed=1) * torch.logspace(-2, 1, N_OUT)[:, None]
    bias = normal(N_OUT, seed=2)
    return RoundedWeight(weight, bias), weight, bias


@pytest.mark.parametrize("after", ["nothing", "gelu", "residual"])
def test_rounded_products_are_near_the_exact_ones(after: str) -> None:
    """Within 2 % of each output's own size, however small or large the row and the output are."""
    linear, (product, weight, bias) = Linear(N_IN, N_OUT), rounded()
    linear.packed = product
    x, residual = normal(2, 9, N_IN) * torch.logspace(-3, 3, 9)[:, None], normal(2, 9, N_OUT, seed=3)
    exact = {
        "nothing": F.linear(x, weight, bias),
        "gelu": F.gelu(F.linear(x, weight, bias)),
        "residual": residual + F.linear(x, weight, bias),
    }[after]

    found = linear(x, gelu=after == "gelu", residual=residual if after == "residual" else None)

    size = x.norm(dim=-1, keepdim=True) * weight.norm(dim=-1) / N_IN**0.5  # (2, 9, N_OUT), of a product's terms
    assert ((found - exact).abs() < 1e-5 + 0.02 * size * N_IN**0.5 / 4).all()


def test_the_largest_numbers_do_not_overflow() -> None:
    """All weights and all activations as large as they may be, with the same sign: the sums are exact."""
    product = RoundedWeight(torch.full((N_OUT, N_IN), 0.5), None)

    for sign in (1.0, -1.0):
        assert_close(product(torch.full((3, N_IN), 7.0 * sign)), torch.full((3, N_OUT), 3.5 * N_IN * sign))


def test_a_row_does_not_depend_on_the_rows_beside_it() -> None:
    """However wide they are, its product has the same bits."""
    product, *_ = rounded()
    rows = normal(40, N_IN) * torch.logspace(-2, 2, 40)[:, None]

    assert torch.equal(torch.cat([product(row[None]) for row in rows]), product(rows))


def test_rows_without_width_give_the_bias() -> None:
    """Zeros have no step of their own."""
    product, _, bias = rounded()

    assert torch.equal(product(torch.zeros(2, N_IN)), bias.expand(2, N_OUT))


def test_what_is_not_a_number_stays_visible() -> None:
    """A row with NaN or infinity gives NaN, so that a device at fault is found; the rows beside it do not."""
    product, *_ = rounded()
    x = normal(3, N_IN)
    x[0, 5], x[2, 7] = torch.nan, torch.inf

    found = product(x)

    assert found.isnan().any(dim=1).tolist() == [True, False, True]


def test_a_layer_is_rounded_off_for_good() -> None:
    """The layer multiplies in 8 bits and keeps no other weight."""
    layer = Linear(N_IN, N_OUT).requires_grad_(False)
    x, exact = normal(5, N_IN), None
    exact = layer(x)

    layer.round_off()

    assert layer.is_rounded
    assert layer.weight.numel() == 0
    assert (layer(x) - exact).std() < 0.03 * exact.std()


def test_other_arithmetic_has_products_of_its_own() -> None:
    """Neither bfloat16 nor another device is served here."""
    assert not has_products(torch.device("cpu"), torch.bfloat16)
    assert not has_products(torch.device("meta"), torch.float32)
