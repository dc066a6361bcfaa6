"""An empty home for every test of this folder, and the real weights read once."""

from __future__ import annotations

from pathlib import Path

import pytest

from streamer import weights
from streamer.weights import Checkpoint


@pytest.fixture(autouse=True)
def empty_caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the developer has downloaded must not decide a test."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("HF_HOME", raising=False)
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)


@pytest.fixture(scope="session")
def tiny_en() -> Checkpoint:
    """The real tiny.en."""
    return weights.load(weights.resolve("tiny.en"))


@pytest.fixture(scope="session")
def base() -> Checkpoint:
    """The real base."""
    return weights.load(weights.resolve("base"))
