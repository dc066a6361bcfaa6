"""Fixtures that every folder of tests shares: recordings and weights."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

import pytest

from streamer.weights import Checkpoint, load, resolve
from tests.helpers.recordings import Recording, read_recordings


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
