"""Tests of streamer.engine.verification."""

from __future__ import annotations

import torch

from streamer.engine.row import Row
from streamer.engine.verification import restrictions_of, segments_of
from streamer.step import StepRequest


def row(*, budget: int = 10, **fields: object) -> Row:
    """A row of which nothing is cached."""
    request = StepRequest(session="s", log_mel=torch.zeros(5, 10), **fields)  # type: ignore[arg-type]
    return Row(request, slot=0, n_positions=5, language="en", context=(1, 2), sot_at=0, n_cached=0, budget=budget)


def test_places_of_a_draft_are_places_of_the_pass() -> None:
    """Behind the choices of the rows before, one more than each has draft tokens; not beyond a draft that is cut."""
    first = row(draft=(5, 6))
    second = row(draft=(7, 8, 9), rests_at=(0, 3), no_eot_at=2)
    cut = row(draft=(7, 8, 9), rests_at=(1, 3), budget=2)

    restrictions = restrictions_of(segments_of([first, second, cut]), lambda _: True)

    assert restrictions.rests == [3, 6, 8]
    assert restrictions.no_eot == [5]
    assert restrictions.first == [0, 3, 7]
