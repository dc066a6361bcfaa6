"""Tests of streamer/daemon/lifecycle.py; `test_serve` has the signals and the drain."""

from __future__ import annotations

import sys

import pytest

from streamer.daemon import lifecycle
from streamer.host.interpreter import SWITCH_S


def test_the_threads_of_a_daemon_share_the_interpreter() -> None:
    """The thread that computes has it soon, whatever the event loop does."""
    seen, before_s = list[float](), sys.getswitchinterval()

    async def look() -> None:
        seen.append(sys.getswitchinterval())

    try:
        lifecycle.run(look())
    finally:
        sys.setswitchinterval(before_s)

    assert seen == [pytest.approx(SWITCH_S)]
