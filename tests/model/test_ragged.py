"""model/ragged.py"""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from model.ragged import padded_rows


@given(counts=st.lists(st.integers(1, 6), min_size=1, max_size=6), first=st.integers(0, 5))
def test_padding_and_back_leaves_every_row(counts: list[int], first: int) -> None:
    """Rows are padded by their last item; what is real of them are the rows again, in order."""
    items = torch.arange(first + sum(counts) + 2)
    n = max(counts)

    held, real = padded_rows(torch.tensor(counts), first, torch.device("cpu"))

    padded = items[held].reshape(len(counts), n)
    rows = items[first : first + sum(counts)].split(counts)
    assert [row.tolist() for row in padded] == [[*row.tolist(), *[int(row[-1])] * (n - len(row))] for row in rows]
    back = padded.flatten() if real is None else padded.flatten()[real]
    assert back.tolist() == torch.cat(rows).tolist()


def test_rows_of_one_length_are_a_slice() -> None:
    """Nothing is gathered where nothing is padded."""
    assert padded_rows(torch.tensor([3, 3]), 4, torch.device("cpu")) == (slice(4, 10), None)
