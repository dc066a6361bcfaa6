"""model/window_group.py; what groups compute stands in tests/model/test_encoder.py"""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from model.window_group import SHORT, Window, alone, of_like_length


def windows(counts: list[int]) -> list[Window]:
    """Windows with so many new positions, none settled."""
    return [Window(torch.zeros(5, 2 * n), torch.zeros(2, 1, 1, 0, 4), n) for n in counts]


@given(counts=st.lists(st.integers(1, 1500), min_size=1, max_size=20))
def test_windows_of_a_group_are_of_like_length(counts: list[int]) -> None:
    """Each window in one group; within it the longest has at most twice as many new positions, unless all are short."""
    groups = of_like_length(windows(counts))

    assert sorted(number for group in groups for number in group) == list(range(len(counts)))
    for group in groups:
        lengths = [counts[number] for number in group]
        assert max(lengths) <= 2**SHORT or max(lengths) < 2 * min(lengths)


def test_alone_means_one_by_one() -> None:
    """Groups of one, in order."""
    assert alone(windows([3, 1, 2])) == [[0], [1], [2]]


def test_a_window_knows_where_it_ends() -> None:
    """Settled positions, then the new ones."""
    window = Window(torch.zeros(5, 10), torch.zeros(2, 1, 1, 7, 4), 4)

    assert (window.start, window.end) == (7, 11)
