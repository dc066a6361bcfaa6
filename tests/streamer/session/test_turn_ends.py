"""Tests of streamer/session/turn_ends.py."""

from __future__ import annotations

import pytest

from streamer.protocol.events import TurnEndReason
from streamer.session.turn_ends import PendingTurnEnds


def reached(pending: PendingTurnEnds) -> list[tuple[int, TurnEndReason]]:
    """All ends in order, each where and why."""
    ends: list[tuple[int, TurnEndReason]] = []
    while pending:
        frame = pending.frame
        ends.append((frame, pending.pop()))
    return ends


@pytest.mark.parametrize(
    ("asked", "ends"),
    [
        ([], []),
        ([("silence", 10), ("silence", 20)], [(10, "silence")]),
        ([("flush", 10), ("silence", 20)], [(10, "flush")]),
        ([("flush", 10), ("flush", 20)], [(20, "flush")]),
        ([("silence", 10), ("flush", 10)], [(10, "flush")]),
        ([("silence", 10), ("flush", 20)], [(10, "silence"), (20, "flush")]),
        ([("silence", 10), ("flush", 20), ("end", 30)], [(10, "silence"), (30, "end")]),
    ],
)
def test_ends_in_order(asked: list[tuple[TurnEndReason, int]], ends: list[tuple[int, TurnEndReason]]) -> None:
    """A pause keeps its own end, what covers everything so far takes the place of its like."""
    pending = PendingTurnEnds()
    for reason, frame in asked:
        pending.request(reason, frame)
    assert reached(pending) == ends


def test_nothing_is_left_after_a_withdrawal() -> None:
    """The next end is the only one."""
    pending = PendingTurnEnds()
    pending.request("silence", 10)
    pending.request("end", 20)
    pending.clear()
    assert not pending
