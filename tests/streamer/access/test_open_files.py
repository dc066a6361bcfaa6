"""Tests of streamer/access/open_files.py: fewer open files than the limits ask for."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from streamer.access.open_files import RESERVED, needed_files, shared_out
from streamer.access.open_sockets import MAX_WAITING
from streamer.config import LimitsConfig


def test_enough_files_change_nothing() -> None:
    """The limits are as configured."""
    limits = LimitsConfig()
    assert shared_out(limits, needed_files(limits)) == (limits, MAX_WAITING)


def test_a_thousand_files_leave_room_for_everybody() -> None:
    """Connections, viewers, those that wait, and what is no connection."""
    limits, max_waiting = shared_out(LimitsConfig(), 1024)

    assert max_waiting == 208
    assert 300 < limits.max_viewers < limits.max_connections < 330
    assert limits.max_connections + limits.max_viewers + max_waiting + RESERVED <= 1024


@given(st.integers(1, 10_000), st.integers(0, 10_000), st.integers(400, 50_000))
def test_what_is_shared_out_is_there(n_connections: int, n_viewers: int, n_files: int) -> None:
    """And nobody gets more than was configured."""
    asked = LimitsConfig(max_connections=n_connections, max_viewers=n_viewers)
    limits, max_waiting = shared_out(asked, n_files)

    n_all = limits.max_connections + limits.max_viewers + max_waiting + RESERVED
    assert n_all <= n_files
    assert 1 <= limits.max_connections <= n_connections
    assert limits.max_viewers <= n_viewers
