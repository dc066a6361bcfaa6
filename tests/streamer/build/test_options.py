"""Tests of streamer/build/options.py."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import msgspec
import pytest
import torch

from model import PUBLISHED_DIMENSIONS
from streamer.build import options
from streamer.build.options import (
    choose_device,
    choose_dtype,
    device_errors,
    engine_options,
    kept_bytes,
    rows_that_fit,
)
from streamer.config import Config, ModelConfig, ReviseConfig, SchedulerConfig, load
from streamer.errors import EngineError
from streamer.session.audio_window import LONGEST_WINDOW_S, WindowOptions

REPOSITORY = Path(__file__).parents[3]


def test_the_longest_window_that_can_be_set() -> None:
    """The configuration allows what a session has room for, and no more."""
    [bounds] = [
        field.type for field in msgspec.inspect.type_info(SchedulerConfig).fields if field.name == "max_window_s"
    ]
    assert (bounds.ge, bounds.le) == (WindowOptions(max_window_s=LONGEST_WINDOW_S).keep_s + 2.0, LONGEST_WINDOW_S)


def test_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    """The one asked for; `auto` is the GPU if there is one; a GPU that is not there is an error."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device(ModelConfig(device="cpu")).type == "cpu"
    assert choose_device(ModelConfig(device="auto")).type == "cpu"
    with pytest.raises(EngineError, match="torch sees no GPU"):
        choose_device(ModelConfig(device="cuda"))

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert choose_device(ModelConfig(device="cpu")).type == "cpu"
    assert choose_device(ModelConfig(device="auto")).type == "cuda"


def test_a_gpu_that_is_too_small() -> None:
    """What torch says of it, and the remedy; on a CPU such an error is a fault of the program, and stays what it is."""
    error = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 3 GiB.\nSee the documentation")

    with (
        pytest.raises(EngineError, match=r"^large-v3 cannot be loaded on the GPU: CUDA .* 3 GiB\.; .* smaller model"),
        device_errors("large-v3", torch.device("cuda")),
    ):
        raise error
    with pytest.raises(torch.OutOfMemoryError), device_errors("large-v3", torch.device("cpu")):
        raise error


@pytest.mark.parametrize(("flags", "chosen"), [("avx512_bf16 amx_bf16", torch.bfloat16), ("avx2", torch.float32)])
def test_arithmetic_of_the_processor(monkeypatch: pytest.MonkeyPatch, flags: str, chosen: torch.dtype) -> None:
    """On a CPU bfloat16 is taken where it is native."""
    monkeypatch.setattr(options, "cpuinfo", lambda: f"processor : 0\nflags\t\t: fpu sse2 {flags}\n")

    assert choose_dtype(ModelConfig(dtype="auto"), torch.device("cpu")) == chosen


@pytest.mark.parametrize("name", ["float32", "bfloat16", "float16"])
def test_arithmetic_asked_for(name: Literal["float32", "bfloat16", "float16"]) -> None:
    """What the configuration names is taken, measured or not."""
    assert choose_dtype(ModelConfig(dtype=name), torch.device("cpu")) == getattr(torch, name)
    assert choose_dtype(ModelConfig(dtype="auto"), torch.device("cuda")) == torch.float16


@pytest.mark.parametrize("name", ["edge-gpu", "gpu-server"])
def test_shipped_gpu_configurations_compute_in_float16(name: str) -> None:
    """The arithmetic that was measured on a GPU."""
    config = load(REPOSITORY / "configs" / f"{name}.toml", {}, {})

    assert choose_dtype(config.model, torch.device("cuda")) == torch.float16


@pytest.mark.parametrize(
    ("model", "free_gb", "n_rows"),
    [
        ("tiny.en", 3, 35),
        ("large-v3-turbo", 6, 5),
        ("large-v3-turbo", 20, 17),
        ("large-v3", 130, 57),
        ("large-v3", 1, 1),
    ],
)
def test_a_small_gpu_takes_fewer_rows(model: str, free_gb: int, n_rows: int) -> None:
    """What the rows of a step attend to takes a quarter of the memory that is free once the weights are there."""
    assert rows_that_fit(PUBLISHED_DIMENSIONS[model], free_gb * 10**9, torch.float16) == n_rows


def test_engines_on_one_gpu_share_its_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of their parts of what is free for caches, a quarter for rows."""
    model = on_gpu(monkeypatch, "tiny.en", free_gb=6)
    config, revised = Config(), kept_bytes(model.dims, torch.float16, n_texts=5)

    alone, shared = engine_options(config, model), engine_options(config, model, sharing=2)

    assert alone.max_remembered_bytes == (6 * 10**9 - revised) // 2
    assert shared.max_remembered_bytes == (3 * 10**9 - revised) // 2
    assert shared.max_batch == rows_that_fit(model.dims, 3 * 10**9 - revised, torch.float16) < alone.max_batch


def test_second_passes_have_their_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """The beams of each model are counted before the shares are made; live sessions keep half of what is free."""
    model, second = on_gpu(monkeypatch, "large-v3-turbo", free_gb=6), PUBLISHED_DIMENSIONS["large-v3"]
    slots = 5 * 2 * 2 * second.n_text_layer * second.n_text_state * (second.n_audio_ctx + second.n_text_ctx)
    greedy = Config(revise=ReviseConfig(beams=1))

    alone, both = engine_options(Config(), model), engine_options(Config(), model, second=[second])

    assert 2 * (alone.max_remembered_bytes - both.max_remembered_bytes) > slots > 1.5 * 10**9
    assert engine_options(greedy, model).max_remembered_bytes > alone.max_remembered_bytes
    full = engine_options(Config(), on_gpu(monkeypatch, "large-v3", free_gb=1))
    assert (full.max_batch, full.max_remembered_bytes) == (1, 10**9 // 4)


def on_gpu(monkeypatch: pytest.MonkeyPatch, name: str, free_gb: int) -> Any:
    """A model of a published size on a GPU with so much free memory, as far as options look at it."""
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (free_gb * 10**9, 8 * 10**9))
    return SimpleNamespace(dims=PUBLISHED_DIMENSIONS[name], device=torch.device("cuda"), dtype=torch.float16)
