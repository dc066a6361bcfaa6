"""Tests of streamer.host.clock."""

from __future__ import annotations

import pytest

from streamer.host.clock import is_synchronised


@pytest.mark.parametrize(("state", "expected"), [(0, True), (1, True), (5, False), (-1, None)])
def test_the_answer_of_the_kernel_is_told(state: int, expected: bool | None) -> None:
    """A leap second that is near is no error; a container may forbid the question."""
    assert is_synchronised(lambda: state) is expected


def test_this_machine_can_be_asked() -> None:
    """Whatever it answers."""
    assert is_synchronised() in (True, False, None)
