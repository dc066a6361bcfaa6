"""model/alignment.py"""

from __future__ import annotations

import numba
import numpy as np
import pytest
import torch
import whisper.timing
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor
from torch.testing import assert_close

from model.alignment import alignment_cost, median_filter, monotone_starts
from tests.helpers.networks import Heard, Pair, published_cross_scores

published_dtw = numba.njit(whisper.timing.dtw_cpu.py_func)
"""Compiled without its `parallel`, which would set the number of threads of torch as well."""


def normal(*shape: int, seed: int = 0) -> Tensor:
    """Seeded normal numbers."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def cost_alone(scores: Tensor, n_sot: int = 0) -> Tensor:
    """Of one item (n_heads, n_tokens, n_positions), from its token number `n_sot` on."""
    return alignment_cost(scores[None], [(scores.shape[1], scores.shape[2])])[0, n_sot:]


def published_cost(scores: Tensor, n_sot: int) -> Tensor:
    """The published formula of `find_alignment`, with the published median filter."""
    weights = scores.softmax(dim=-1)
    std, mean = torch.std_mean(weights, dim=-2, keepdim=True, unbiased=False)
    filtered: Tensor = whisper.timing.median_filter((weights - mean) / std, 7)
    return -filtered.mean(dim=0)[n_sot:]


def published_starts(cost: Tensor) -> list[int]:
    """First position of each token on the published path."""
    text, time = published_dtw(cost.double().numpy())
    jumps = np.pad(np.diff(text), (1, 0), constant_values=1).astype(bool)
    starts: list[int] = time[jumps].tolist()
    return starts


def cheapest(cost: NDArray[np.float64]) -> float:
    """Cost of the best path, cell by cell."""
    n, width = cost.shape
    total = np.full((n + 1, width + 1), np.inf)
    total[0, 0] = 0.0
    for i in range(n):
        for j in range(width):
            total[i + 1, j + 1] = cost[i, j] + min(total[i, j], total[i, j + 1], total[i + 1, j])
    return float(total[n, width])


def cost_of(starts: list[int], cost: NDArray[np.float64]) -> float:
    """Cost of the best path with these starts: a token ends where the next one starts, or just before."""
    total = 0.0
    for row, start in enumerate(starts):
        if row + 1 == len(starts):
            return total + float(cost[row, start:].sum())
        following = starts[row + 1]
        ends = [end for end in (following - 1, following) if end >= start]
        total += min(float(cost[row, start : end + 1].sum()) for end in ends)
    raise AssertionError("no tokens")


@st.composite
def whole_costs(draw: st.DrawFn) -> Tensor:
    """Small matrices of small whole numbers: many ties, and sums without rounding."""
    n, width = draw(st.integers(1, 8)), draw(st.integers(1, 9))
    cells = draw(st.lists(st.integers(-4, 4), min_size=n * width, max_size=n * width))
    return torch.tensor(cells, dtype=torch.float32).reshape(n, width)


@given(
    shape=st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(0, 30)),
    seed=st.integers(0, 2**20),
    whole=st.booleans(),
)
def test_median_filter_is_the_published_one(shape: tuple[int, int, int], seed: int, whole: bool) -> None:
    """Bit for bit, for any length, too short ones and ties included."""
    x = normal(*shape, seed=seed)
    x = x.round() if whole else x

    assert torch.equal(median_filter(x, [shape[-1]] * len(x)), whisper.timing.median_filter(x, 7))


@pytest.mark.parametrize("shape", [(9, 50), (2, 9, 50), (2, 3, 9, 50)])
def test_median_filter_works_on_the_last_axis(shape: tuple[int, ...]) -> None:
    """Any leading axes are independent of each other."""
    x = normal(*shape)

    assert torch.equal(median_filter(x, [50] * len(x)), whisper.timing.median_filter(x, 7))


@given(widths=st.lists(st.integers(1, 12), min_size=1, max_size=4), seed=st.integers(0, 2**20))
def test_median_filter_ends_where_each_item_ends(widths: list[int], seed: int) -> None:
    """Items of different lengths in one call are filtered as each is alone; what lies behind one does not matter."""
    x = normal(len(widths), 3, max(widths), seed=seed)

    filtered = median_filter(x, widths)

    for item, found, width in zip(x, filtered, widths, strict=True):
        assert torch.equal(found[:, :width], whisper.timing.median_filter(item[:, :width], 7))


@given(cost=whole_costs())
def test_starts_lie_on_a_cheapest_path(cost: Tensor) -> None:
    """From the first position, never backwards, at no more than the least possible cost; also with ties."""
    (starts,) = monotone_starts([cost])

    assert len(starts) == cost.shape[0]
    assert starts[0] == 0
    assert starts == sorted(starts)
    assert starts[-1] < cost.shape[1]
    assert cost_of(starts, cost.double().numpy()) == cheapest(cost.double().numpy())


@given(n=st.integers(1, 20), width=st.integers(1, 40), seed=st.integers(0, 2**20))
def test_starts_are_the_published_ones(n: int, width: int, seed: int) -> None:
    """Without ties there is one cheapest path, and both find it, also with more tokens than positions."""
    cost = normal(n, width, seed=seed)

    assert monotone_starts([cost]) == [published_starts(cost)]


@given(costs=st.lists(whole_costs(), min_size=1, max_size=5))
def test_starts_of_a_batch_are_those_of_each_alone(costs: list[Tensor]) -> None:
    """Items of different sizes do not influence each other."""
    assert monotone_starts(costs) == [monotone_starts([cost])[0] for cost in costs]


def test_cost_is_the_published_formula() -> None:
    """Softmax, standardised over all tokens, median filter, mean over heads; then start tokens are cut off."""
    scores = 3.0 * normal(6, 11, 80)

    assert_close(cost_alone(scores, n_sot=4), published_cost(scores, 4), rtol=1e-5, atol=1e-6)


@given(
    sizes=st.lists(st.tuples(st.integers(1, 6), st.integers(1, 20)), min_size=1, max_size=4), seed=st.integers(0, 2**20)
)
def test_costs_of_a_batch_are_those_of_each_alone(sizes: list[tuple[int, int]], seed: int) -> None:
    """Padding, whatever it holds, changes nothing: neither the softmax nor the statistics nor the median."""
    n, width = (max(each) for each in zip(*sizes, strict=True))
    scores = 3.0 * normal(len(sizes), 2, n, width, seed=seed)

    costs = alignment_cost(scores, sizes)

    for item, cost, (n_tokens, n_positions) in zip(scores, costs, sizes, strict=True):
        expected = cost_alone(item[:, :n_tokens, :n_positions])
        assert_close(cost[:n_tokens, :n_positions], expected, rtol=1e-4, atol=1e-4)


@given(
    sizes=st.lists(st.tuples(st.integers(1, 6), st.integers(1, 20)), min_size=1, max_size=4),
    seed=st.integers(0, 2**20),
    draw=st.data(),
)
def test_part_of_the_costs_is_that_of_the_whole(sizes: list[tuple[int, int]], seed: int, draw: st.DataObject) -> None:
    """Tokens and positions that are left out count nevertheless: for the statistics, and for the median beside them."""
    n, width = (max(each) for each in zip(*sizes, strict=True))
    token, position = (draw.draw(st.integers(0, min(each) - 1)) for each in zip(*sizes, strict=True))
    scores = 3.0 * normal(len(sizes), 2, n, width, seed=seed)

    part = alignment_cost(scores, sizes, first_token=token, first_position=position)

    for found, whole, (n_tokens, n_positions) in zip(part, alignment_cost(scores, sizes), sizes, strict=True):
        expected = whole[token:n_tokens, position:n_positions]
        assert_close(found[: n_tokens - token, : n_positions - position], expected, rtol=1e-5, atol=1e-6)


def test_cost_of_tokens_that_all_attend_alike_is_finite() -> None:
    """Where every token has the same weights their spread is zero, and the cost is zero, not NaN."""
    scores = normal(2, 1, 20).expand(2, 5, 20)

    assert torch.equal(cost_alone(scores), torch.zeros(5, 20))


def test_times_of_speech_are_the_published_ones(pair: Pair, heard: list[Heard]) -> None:
    """From real scores of real speech to the same costs and starts, each text alone and all in one batch."""
    costs, expected = [], []
    for one in heard:
        every = published_cross_scores(pair.published, one.tokens, one.features)[:, 0]
        scores = torch.stack([every[layer, head] for layer, head in pair.ours.decoder.alignment_heads])
        scores = scores[:, :, :500]
        costs.append(cost_alone(scores, n_sot=1))
        assert_close(costs[-1], published_cost(scores, 1), rtol=1e-5, atol=1e-5)
        expected.append(published_starts(costs[-1]))

    assert [monotone_starts([cost])[0] for cost in costs] == expected
    assert monotone_starts(costs) == expected


@pytest.mark.parametrize("sizes", [[], [(1, 1)] * 3, [(0, 4), (1, 1)], [(1, 1), (4, 5)], [(1, 1), (3, 6)]])
def test_sizes_are_those_of_the_scores(sizes: list[tuple[int, int]]) -> None:
    """One pair for each item, within its axes."""
    with pytest.raises(ValueError, match=r"expected \(1 to 3, 1 to 5\) for each of 2 items"):
        alignment_cost(torch.zeros(2, 1, 3, 5), sizes)


@pytest.mark.parametrize(("token", "position"), [(3, 0), (0, 5), (-1, 0), (0, -1)])
def test_first_token_and_position_are_those_of_every_item(token: int, position: int) -> None:
    """None is left without a cost."""
    with pytest.raises(ValueError, match=f"first token {token}, first position {position}: expected some of"):
        alignment_cost(torch.zeros(2, 1, 3, 5), [(3, 5), (3, 5)], first_token=token, first_position=position)


def test_costs_need_heads_tokens_and_positions() -> None:
    """Without one of them there is no path."""
    with pytest.raises(ValueError, match="at least one head"):
        alignment_cost(torch.zeros(1, 0, 3, 5), [(3, 5)])
    for costs in ([], [torch.zeros(2, 3), torch.zeros(0, 3)], [torch.zeros(3)]):
        with pytest.raises(ValueError, match="expected at least one, each"):
            monotone_starts(costs)
