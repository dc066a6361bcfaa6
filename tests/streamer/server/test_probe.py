"""Tests of streamer/server/probe.py: when a peer that is not read is asked."""

from __future__ import annotations

import asyncio

import pytest

from streamer.server import probe as module
from streamer.server.probe import Probe
from tests.helpers.http_daemon import within


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Questions come without a wait."""
    monkeypatch.setattr(module, "PROBE_S", 0.001)


async def test_a_peer_that_is_not_read_is_asked_again_and_again() -> None:
    """As long as it is not read."""
    asked = asyncio.Semaphore(0)
    probe = Probe(asked.release)
    probe.hold()
    for _ in range(3):
        await within(asked.acquire())
    probe.stop()


async def test_a_peer_that_is_read_again_is_not_asked() -> None:
    """Nor is one that is gone; another one, held as long, is asked twice meanwhile."""
    asked, other = list[str](), asyncio.Semaphore(0)
    read, gone, held = Probe(lambda: asked.append("read")), Probe(lambda: asked.append("gone")), Probe(other.release)
    for probe in (read, gone, held):
        probe.hold()
    read.read()
    gone.stop()
    for _ in range(2):
        await within(other.acquire())
    held.stop()

    assert asked == []
