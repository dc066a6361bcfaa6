"""Tests of streamer/remote/held_windows.py: what an engine process was sent of each session's window."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from streamer.remote import held_windows, wire
from streamer.remote.held_windows import HeldWindows
from tests.helpers.engines import request

WINDOW = torch.arange(300).reshape(3, 100).float()
"""Of three bands; exact in float16."""


def row(n_frames: int, first: int, session: str = "a", start: int | None = 0) -> wire.Row:
    """The row of a window of so many frames, as it arrives."""
    asked = request(WINDOW[:, :n_frames], session, window_start=start)
    call = wire.Call(id=1, fingerprint="", deadline_s=0.0, most_rows=1, rows=(wire.row_of(asked, first),))
    received = wire.from_gateway(wire.pack(call)[wire.LENGTH.size :])
    assert isinstance(received, wire.Call)
    return received.rows[0]


def whole(held: HeldWindows, row: wire.Row) -> Tensor | None:
    """The window of a row."""
    found = held.whole(row)
    return found.log_mel if found else None


def test_a_window_grows_by_what_is_sent() -> None:
    """Each step sees all of it."""
    held = HeldWindows(3)
    for n_frames, first in [(10, 0), (40, 10), (40, 40), (100, 40)]:
        found = whole(held, row(n_frames, first))
        assert found is not None
        assert torch.equal(found, WINDOW[:, :n_frames])


def test_what_is_not_held_is_not_invented() -> None:
    """Neither behind a gap, nor of another window, session, or window that is seen once."""
    held = HeldWindows(3)
    held.whole(row(10, 0))
    held.whole(row(10, 0, "once", None))

    others = [row(40, 11), row(40, 10, start=5), row(40, 10, "b"), row(40, 10, "once", None)]
    assert [whole(held, each) for each in others] == [None] * 4


def test_a_call_that_comes_late_or_twice_changes_nothing() -> None:
    """The longer window stays."""
    held = HeldWindows(3)
    for each in (row(10, 0), row(40, 10), row(40, 10), row(10, 0)):
        held.whole(each)

    found = whole(held, row(60, 40))
    assert found is not None
    assert torch.equal(found, WINDOW[:, :60])


def test_windows_are_dropped_within_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """The one that was sent longest ago; its gateway is asked for all of it."""
    monkeypatch.setattr(held_windows, "MOST_BYTES", 2 * WINDOW.half().nbytes)
    held = HeldWindows(3)
    for session in "abc":
        held.whole(row(100, 0, session))

    assert [whole(held, row(100, 100, session)) is None for session in "abc"] == [True, False, False]


def test_windows_of_sessions_that_are_over_are_released() -> None:
    """At once."""
    held = HeldWindows(3)
    held.whole(row(10, 0))
    held.forget(["a", "b"])

    assert whole(held, row(10, 10)) is None
