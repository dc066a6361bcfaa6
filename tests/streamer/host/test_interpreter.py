"""Tests of streamer/host/interpreter.py: a thread that waits for the interpreter has it soon."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from streamer.host.interpreter import share_interpreter


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    """Other tests have the interval of Python."""
    seconds = sys.getswitchinterval()
    yield
    sys.setswitchinterval(seconds)


def test_a_step_is_not_held_up_by_the_event_loop() -> None:
    """Five hundred products that wait for a busy loop lose less than a tenth of a second."""
    share_interpreter()

    assert 500 * sys.getswitchinterval() < 0.1
