"""model/screening.py"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from model.screening import MOST_NEAR, NEAR, ScreenedVocabulary, screen

N_VOCAB, WIDTH = 1001, 96
pytestmark = pytest.mark.skipif(
    "fbgemm" not in torch.backends.quantized.supported_engines, reason="torch has no 8-bit products on this processor"
)


def normal(*shape: int, seed: int = 0) -> Tensor:
    """Seeded normal numbers."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def screened(weight: Tensor) -> ScreenedVocabulary:
    """A screened embedding; every test here needs one."""
    vocabulary = screen(weight)
    assert vocabulary is not None
    return vocabulary


def hidden_states() -> Tensor:
    """Rows of one large value among small ones, as a network has them, and of very different sizes, (20, WIDTH)."""
    rows = normal(20, WIDTH)
    rows[:, 7] *= 8
    return rows * torch.logspace(0, 2, 20)[:, None]


def test_the_likeliest_tokens_have_the_logits_of_the_exact_product() -> None:
    """The greedy choice and everything near it; the rest is near the exact product."""
    weight, rows = 0.5 * normal(N_VOCAB, WIDTH, seed=1), hidden_states()
    exact, found = rows @ weight.T, screened(weight)(rows)

    assert found.shape == exact.shape
    assert torch.equal(found.argmax(dim=1), exact.argmax(dim=1))
    near = exact > exact.amax(dim=1, keepdim=True) - NEAR / 2
    assert_close(found[near], exact[near])
    assert ((found - exact).std(dim=1) < 0.05 * exact.std(dim=1)).all()


def test_a_row_does_not_depend_on_the_rows_beside_it() -> None:
    """However wide they are, its logits are the same bits."""
    vocabulary, rows = screened(normal(N_VOCAB, WIDTH, seed=1)), hidden_states()

    assert torch.equal(vocabulary(rows[3]), vocabulary(rows)[3])
    assert torch.equal(vocabulary(rows.view(2, 10, WIDTH)).flatten(0, 1), vocabulary(rows))


def test_flat_logits_are_not_all_computed_again() -> None:
    """Where every token is near, the likeliest few are: a row without any sense must not cost more than a product."""
    weight = 1e-3 * normal(N_VOCAB, WIDTH, seed=1)
    rows = normal(3, WIDTH)
    found, exact = screened(weight)(rows), rows @ weight.T

    is_exact = (found - exact).abs() < 1e-6
    assert N_VOCAB > 2 * MOST_NEAR
    assert (is_exact.sum(dim=1) < MOST_NEAR).all()
    assert torch.equal(found.argmax(dim=1), exact.argmax(dim=1))


def test_rows_without_width_are_finite() -> None:
    """All tokens are equally likely after a hidden state of zeros."""
    assert torch.equal(screened(normal(N_VOCAB, WIDTH))(torch.zeros(2, WIDTH)), torch.zeros(2, N_VOCAB))


def test_weights_that_gain_nothing_are_not_screened() -> None:
    """Small ones are exact at no cost, bfloat16 has products of its own, and a GPU is not served here."""
    assert screen(normal(100, 100)) is None
    assert screen(normal(N_VOCAB, WIDTH).bfloat16()) is None
    assert screen(torch.empty(N_VOCAB, WIDTH, device="meta")) is None
