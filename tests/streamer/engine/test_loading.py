"""Tests of streamer/engine/loading.py."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from model import PUBLISHED_DIMENSIONS
from streamer.engine.loading import load_model, random_model
from streamer.errors import CheckpointError, ModelNotFoundError


def test_store_of_a_service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under systemd, models lie in the cache directory of the unit, which its XDG_CACHE_HOME names."""
    store = tmp_path / "whisper-streamer" / "models" / "mine"
    store.mkdir(parents=True)
    (store / "model.bin").write_bytes(b"\x06\x00\x00\x00")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    with pytest.raises(CheckpointError, match=r"model\.bin"):
        load_model("mine", torch.float32, torch.device("cpu"))


def test_random_weights_are_the_same_every_time() -> None:
    """A published size with the same numbers every time; other names are refused with the sizes."""
    (one, tokenizer), (other, _) = (random_model("tiny.en", torch.bfloat16, torch.device("cpu")) for _ in range(2))

    assert tokenizer.n_vocab == one.dims.n_vocab
    assert one.dims == PUBLISHED_DIMENSIONS["tiny.en"]
    assert torch.equal(one.encoder.conv1.weight, other.encoder.conv1.weight)
    with pytest.raises(ModelNotFoundError, match=r"'huge'.*need one of tiny"):
        random_model("huge", torch.float32, torch.device("cpu"))
