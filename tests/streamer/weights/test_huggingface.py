"""The reader of Hugging Face folders."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from streamer.errors import CheckpointError
from streamer.weights.huggingface import read_huggingface
from tests.streamer.weights.writers import SMALL, random_tensors, write_huggingface


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A small model."""
    return write_huggingface(tmp_path / "small", random_tensors())


def shards(folder: Path) -> tuple[Path, ...]:
    return tuple(sorted(folder.glob("*.safetensors")))


@pytest.mark.parametrize("n_shards", [1, 3])
def test_tensors_and_dimensions_come_back(tmp_path: Path, n_shards: int) -> None:
    """Whole or in shards, under the published names."""
    tensors = random_tensors()
    folder = write_huggingface(tmp_path / "small", tensors, n_shards=n_shards)

    contents = read_huggingface(folder, shards(folder))

    assert len(shards(folder)) == n_shards
    assert contents.dims == SMALL
    assert contents.tensors.keys() == tensors.keys()
    assert all(torch.equal(contents.tensors[name], tensors[name]) for name in tensors)


@pytest.mark.parametrize(
    ("generation_config", "heads"),
    [
        ({"alignment_heads": [[2, 1], [0, 1], [2, 1]]}, ((0, 1), (2, 1))),
        ({"alignment_heads": None}, None),
        ({}, None),
    ],
)
def test_alignment_heads_come_from_the_generation_config(
    folder: Path, generation_config: object, heads: object
) -> None:
    """Sorted where they are listed, each once, None where not."""
    (folder / "generation_config.json").write_text(json.dumps(generation_config))

    assert read_huggingface(folder, shards(folder)).alignment_heads == heads


def add_projection(folder: Path, offset: float) -> None:
    path = folder / "model.safetensors"
    tensors = load_file(path)
    embedding = tensors["model.decoder.embed_tokens.weight"]
    save_file(
        {name: tensor.clone() for name, tensor in tensors.items()} | {"proj_out.weight": embedding + offset},
        path,
    )


def test_tied_projection_is_dropped(folder: Path) -> None:
    """The output projection is the token embedding, so it is not read twice."""
    add_projection(folder, offset=0.0)

    assert read_huggingface(folder, shards(folder)).tensors.keys() == random_tensors().keys()


def test_untied_projection_is_refused(folder: Path) -> None:
    """A fine-tuned model with a projection of its own would be silently wrong."""
    add_projection(folder, offset=1.0)

    with pytest.raises(CheckpointError, match="proj_out is not the token embedding"):
        read_huggingface(folder, shards(folder))


@pytest.mark.parametrize("n_kept", [0, 4, 8, 100, 20_000])
def test_truncated_files_say_so(folder: Path, n_kept: int) -> None:
    """Cut anywhere, a file is refused with its name."""
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:n_kept])

    with pytest.raises(CheckpointError, match=r"model.safetensors: not a complete safetensors file"):
        read_huggingface(folder, (path,))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (b"{", "config.json: "),
        (b'{"num_mel_bins": 80}', "config.json: Object missing required field"),
        (b'{"num_mel_bins": "80"}', r"config.json: Expected `int`, got `str` - at `\$.num_mel_bins`"),
        (b"\x89PNG", "config.json: "),
    ],
)
def test_broken_configs_are_refused(folder: Path, config: bytes, message: str) -> None:
    """The message names the file and the field."""
    (folder / "config.json").write_bytes(config)

    with pytest.raises(CheckpointError, match=message):
        read_huggingface(folder, shards(folder))


def test_contradicting_config_is_refused(folder: Path) -> None:
    """Numbers that cannot belong to one network."""
    config = json.loads((folder / "config.json").read_text()) | {"decoder_attention_heads": 3}
    (folder / "config.json").write_text(json.dumps(config))

    with pytest.raises(CheckpointError, match="n_text_state = 8 is not a multiple of n_text_head = 3"):
        read_huggingface(folder, shards(folder))


def test_missing_config_is_named(folder: Path) -> None:
    """Tensors alone do not tell the number of heads."""
    (folder / "config.json").unlink()

    with pytest.raises(CheckpointError, match=r"config.json is missing"):
        read_huggingface(folder, shards(folder))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (b'{"alignment_heads": [[1]]}', "Expected `array` of length 2"),
        (b'{"x": ' + b"[" * 100_000, "maximum recursion depth"),
    ],
)
def test_broken_generation_config_is_named(folder: Path, config: bytes, message: str) -> None:
    """Heads must be pairs of integers."""
    (folder / "generation_config.json").write_bytes(config)

    with pytest.raises(CheckpointError, match=f"generation_config.json: {message}"):
        read_huggingface(folder, shards(folder))
