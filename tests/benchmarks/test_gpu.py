"""Tests of benchmarks/gpu.py: what it asks for and has in memory; the figures are those of a device."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from benchmarks import gpu
from streamer.build.engines import Engines, build_engines
from streamer.engine.engine import WhisperEngine
from streamer.engine.random_engine import RandomEngine


@pytest.fixture
def restored_threads() -> Iterator[None]:
    """Building sets the threads of the process: put them back."""
    n = torch.get_num_threads()
    yield
    torch.set_num_threads(n)


@pytest.mark.usefixtures("restored_threads")
def test_the_measured_engine_is_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the engine of the loaded model is beside it, nor the one of the size before: both count as memory."""
    others: list[weakref.ref[WhisperEngine]] = []

    def build(*arguments: Any, **options: Any) -> Engines:
        engines = build_engines(*arguments, **options)
        others.extend(map(weakref.ref, engines.engines))
        return engines

    def steps(engine: WhisperEngine, *_: Any) -> dict[str, Any]:
        n_left = sum(other() is not None for other in others)
        others.append(weakref.ref(engine))
        return {"left": n_left}

    monkeypatch.setattr(gpu, "build_engines", build)
    monkeypatch.setattr(gpu, "steps", steps)

    rows = gpu.measure("tiny.en", [1, 16], 1.0, "cpu", 1e12)

    assert rows == [{"model": "tiny.en", "batch": n, "left": 0} for n in (1, 16)]


@pytest.mark.parametrize("interval_s", [0.5, 1.0, 2.0, 4.0])
def test_a_speaker_drafts_what_it_said_last(interval_s: float) -> None:
    """Of the two newest seconds: nothing where a step comes no sooner, also at the beginning of a window."""
    engine = SimpleNamespace(model=SimpleNamespace(dims=SimpleNamespace(n_mels=2)), _words=list(range(8000)))
    speaker = gpu.Speaker(0, cast("RandomEngine", engine), interval_s)

    drafts = [len(speaker.request().draft) for _ in range(30)]

    assert set(drafts) == {max(0, int((2.0 - interval_s) * 3.5) - 1)}
