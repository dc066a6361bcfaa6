"""Fixtures that every folder of tests shares: recordings and weights."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from streamer.weights import Checkpoint, load, resolve
from tests.helpers.recordings import Recording, read_recordings

# by default hypothesis fails a test whose example takes 0.2 s, or whose first examples take a second to make, which
# depends on what else the machine does
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


@pytest.fixture(scope="session")
def speech() -> Path:
    """Folder of the recordings, with their `manifest.jsonl`."""
    return Path(__file__).parent / "data"


@pytest.fixture(scope="session")
def recordings(speech: Path) -> dict[str, Recording]:
    """The recordings by id."""
    return read_recordings(speech)


@pytest.fixture(scope="session")
def checkpoint() -> Callable[[str], Checkpoint]:
    """Weights by name ("tiny.en", "base"), read once."""
    return functools.cache(lambda name: load(resolve(name)))
