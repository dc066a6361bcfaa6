"""model/append_plan.py"""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from model.append_plan import Group, Held, hiding, padded_group, selector, single_group

CPU = torch.device("cpu")
INF = float("-inf")

HELD = st.tuples(st.integers(0, 6), st.integers(1, 6))
ROWS = st.lists(st.tuples(HELD, st.integers(1, 4)), min_size=1, max_size=4)


def padded(held: list[Held], counts: list[int], first: int = 0) -> Group:
    """The group of slots 0, 1, …"""
    return padded_group(first, range(len(held)), counts, held, torch.float32, CPU)


def rows_of(mask: Tensor | None, n_rows: int, n: int, n_keys: int) -> Tensor:
    """Which keys are visible, (n_rows, n, n_keys); everything where there is no mask."""
    return torch.ones(n_rows, n, n_keys).bool() if mask is None else (mask == 0)[:, 0].expand(n_rows, n, n_keys)


def test_a_row_by_itself_hides_its_own_future_alone() -> None:
    """Two tokens behind one: the first does not see the second, and the whole window is heard."""
    group = single_group(4, 2, 2, (1, 5), torch.float32, CPU)

    assert (group.tokens, group.real, group.slots, group.n_keys) == (slice(4, 6), None, slice(2, 3), 3)
    assert group.mask is not None
    assert group.mask.tolist() == [[[[0, 0, INF], [0, 0, 0]]]]
    assert (group.n_audio_keys, group.audio_mask) == (5, None)


def test_equal_rows_of_one_token_need_no_mask() -> None:
    """Nothing is padded, and nothing hidden."""
    group = padded([(2, 4), (2, 4)], [1, 1], first=3)

    assert (group.tokens, group.real, group.mask, group.audio_mask) == (slice(3, 5), None, None, None)


@given(ROWS)
def test_a_padded_row_sees_what_it_sees_alone(rows: list[tuple[Held, int]]) -> None:
    """Each token sees the keys that it sees where its row is a group of its own, and no other row's excess."""
    held, counts = [each for each, _ in rows], [count for _, count in rows]
    group = padded(held, counts)
    seen = rows_of(group.mask, len(rows), group.n, group.n_keys)
    heard = rows_of(group.audio_mask, len(rows), 1, group.n_audio_keys)

    for row, (each, n) in enumerate(rows):
        alone = single_group(0, row, n, each, torch.float32, CPU)
        visible = rows_of(alone.mask, 1, n, alone.n_keys)[0]
        assert torch.equal(seen[row, :n, : alone.n_keys], visible)
        assert not seen[row, :n, alone.n_keys :].any()
        assert heard[row, 0].tolist() == [key < alone.n_audio_keys for key in range(group.n_audio_keys)]


@pytest.mark.parametrize(("slots", "expected"), [([3], slice(3, 4)), ([1, 2, 3], slice(1, 4)), ([2, 1], [2, 1])])
def test_consecutive_slots_are_a_slice(slots: list[int], expected: slice | list[int]) -> None:
    """So that reads are views; others are gathered."""
    found = selector(slots, CPU)

    assert (found.tolist() if isinstance(found, Tensor) else found) == expected


def test_what_is_hidden_scores_nothing() -> None:
    """Added to a score, in its dtype."""
    assert hiding(torch.tensor([True, False]), torch.float16).tolist() == [INF, 0.0]
