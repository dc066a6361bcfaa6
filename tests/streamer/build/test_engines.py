"""Tests of streamer/build/engines.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from prometheus_client import CollectorRegistry

from streamer.build import engines
from streamer.build.engines import build_engines, growing_memory, second_model
from streamer.config import Config, ModelConfig, ReviseConfig
from streamer.errors import ConfigError, EngineError, ModelNotFoundError


def test_a_model_that_a_gpu_has_no_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """The daemon ends with a message and not with a traceback."""

    def load(*_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(engines, "load_model", load)

    with pytest.raises(EngineError, match=r"tiny\.en cannot be loaded on the GPU: CUDA out of memory; "):
        build_engines(Config(model=ModelConfig(name="tiny.en", device="cuda")), CollectorRegistry())


def test_a_second_model_reads_the_frames_of_the_first() -> None:
    """It is loaded where it is another model and has as many bands."""
    cpu = torch.device("cpu")
    config = Config(revise=ReviseConfig(model="base"))
    [(facts, network)] = second_model(config, 80, torch.float32, cpu)
    assert (facts.name, facts.n_mels, network.dims.n_mels) == ("base", 80, 80)
    assert second_model(Config(), 80, torch.float32, cpu) == []
    with pytest.raises(ConfigError, match=r'revise\.model = "base" has 80 mel bands: expected 128, as tiny\.en'):
        second_model(config, 128, torch.float32, cpu)


def test_two_names_of_one_model_load_it_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An alias, or the path of the same file; where only one of them is on this machine, they are two."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    file = tmp_path / "whisper-streamer" / "models" / "large-v3-turbo" / "large-v3-turbo.pt"
    file.parent.mkdir(parents=True)
    file.touch()
    cpu = torch.device("cpu")

    for name in ("large-v3-turbo", str(file)):
        config = Config(model=ModelConfig(name="turbo"), revise=ReviseConfig(model=name))
        assert second_model(config, 128, torch.float32, cpu) == []
    with pytest.raises(ModelNotFoundError):
        second_model(Config(revise=ReviseConfig(model="small")), 80, torch.float32, cpu)


@pytest.mark.parametrize(
    ("version", "name"),
    [
        ("2.6.0+cu124", "PYTORCH_CUDA_ALLOC_CONF"),
        ("2.9.1", "PYTORCH_CUDA_ALLOC_CONF"),
        ("2.11.0+cu130", "PYTORCH_ALLOC_CONF"),
        (torch.__version__, "PYTORCH_ALLOC_CONF"),
    ],
)
def test_memory_of_a_gpu_grows(version: str, name: str) -> None:
    """By the variable that this torch heeds; what the user has set by either of them stays as it is."""
    assert growing_memory(version, {"HOME": "/root"}) == {name: "expandable_segments:True"}
    for own in ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF"):
        assert growing_memory(version, {own: "backend:cudaMallocAsync"}) == {}
