"""Engines that several equivalences share: none remembers anything between steps."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from streamer.audio.frontend import FrontEnd
from streamer.engine.engine import WhisperEngine
from tests.helpers import stepping
from tests.helpers.engines import engine_on, intact, published, toy


@pytest.fixture(scope="session")
def tiny_engine() -> Iterator[WhisperEngine]:
    """tiny.en in float32, so that no two tokens tie."""
    yield from intact(engine_on(published("tiny.en"), max_batch=8, max_window_s=15.0, kv_reuse=False, settle_s=None))


@pytest.fixture(scope="session")
def toy_engine() -> Iterator[WhisperEngine]:
    """A few thousand random weights."""
    yield from intact(
        engine_on(toy(), max_batch=4, max_window_s=2.0, bucket=8, n_tail=20, kv_reuse=False, settle_s=None)
    )


@pytest.fixture(scope="session")
def front_end() -> FrontEnd:
    """A real front end, for mel frames of 80 bands."""
    return stepping.front_end()
