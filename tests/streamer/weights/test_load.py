"""From a source to a checked checkpoint, on the real weights."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from whisper.model import ModelDimensions as WhisperDimensions
from whisper.model import Whisper

from model import PUBLISHED_DIMENSIONS, published_shapes
from streamer.errors import CheckpointError
from streamer.weights import Checkpoint, ModelSource, load, resolve
from streamer.weights.load import check_sha256, sha256_of
from tests.streamer.weights.writers import SMALL, as_dict, random_tensors, write_huggingface, write_openai


@pytest.mark.parametrize(("fixture", "name"), [("tiny_en", "tiny.en"), ("base", "base")])
def test_real_weights_fit_the_published_network(request: pytest.FixtureRequest, fixture: str, name: str) -> None:
    """Dimensions, names and shapes are those of the published implementation, every key matched."""
    checkpoint: Checkpoint = request.getfixturevalue(fixture)
    network = Whisper(WhisperDimensions(**as_dict(checkpoint.dims)))

    result = network.load_state_dict(checkpoint.tensors, strict=True, assign=True)

    assert not result.missing_keys
    assert not result.unexpected_keys
    assert checkpoint.name == name
    assert checkpoint.dims == PUBLISHED_DIMENSIONS[name]
    assert checkpoint.multilingual == (name == "base")
    assert checkpoint.tensors.keys() == published_shapes(checkpoint.dims).keys()
    assert all(tensor.isfinite().all() for tensor in checkpoint.tensors.values())


def test_other_formats_give_equal_tensors(tiny_en: Checkpoint, tmp_path: Path) -> None:
    """The real weights, written as `.pt` and as safetensors, come back bit for bit."""
    path = write_openai(tmp_path / "tiny.en.pt", tiny_en.tensors, tiny_en.dims)
    folder = write_huggingface(tmp_path / "tiny.en", tiny_en.tensors, tiny_en.dims)

    for place in (path, folder):
        checkpoint = load(resolve(str(place)))
        assert checkpoint.dims == tiny_en.dims
        assert checkpoint.tensors.keys() == tiny_en.tensors.keys()
        assert all(torch.equal(checkpoint.tensors[name], tensor) for name, tensor in tiny_en.tensors.items())


def test_published_heads_and_vocabulary_are_found_elsewhere(tiny_en: Checkpoint, tmp_path: Path) -> None:
    """A `.pt` carries neither: heads come from the table, the vocabulary from any model that shares it."""
    path = write_openai(tmp_path / "tiny.en.pt", random_tensors(tiny_en.dims), tiny_en.dims)

    checkpoint = load(resolve(str(path)))

    assert checkpoint.name == "tiny.en"
    assert checkpoint.alignment_heads == tiny_en.alignment_heads
    assert checkpoint.vocabulary == tiny_en.vocabulary


def test_vocabulary_in_the_store(tmp_path: Path) -> None:
    """The store given is searched, before packages."""
    path = write_openai(tmp_path / "mine.pt", random_tensors())
    (tmp_path / "store" / "tiny.en").mkdir(parents=True)
    (tmp_path / "store" / "tiny.en" / "tiny.en.pt").touch()
    vocabulary = tmp_path / "store" / "tiny.en" / "gpt2.tiktoken"
    vocabulary.touch()

    checkpoint = load(resolve(str(path)), tmp_path / "store")

    assert checkpoint.vocabulary == vocabulary
    assert checkpoint.alignment_heads is None


def test_wrong_hash_is_refused(tmp_path: Path) -> None:
    """One changed bit in weights whose hash is known."""
    path = write_openai(tmp_path / "small.pt", random_tensors())
    source = ModelSource(name="small", format="openai", weights=(path,), sha256=sha256_of(path))
    load(source)
    data = bytearray(path.read_bytes())
    data[-1000] ^= 1
    path.write_bytes(data)

    with pytest.raises(CheckpointError, match=r"small.pt is not small as published: its SHA-256 is \w+, expected"):
        load(source)


def test_hash_runs_over_all_parts(tmp_path: Path) -> None:
    """Parts are hashed one after the other, as if they were one file."""
    for name, content in (("a", b"one"), ("b", b"two")):
        (tmp_path / name).write_bytes(content)

    assert sha256_of(tmp_path / "a", tmp_path / "b") == hashlib.sha256(b"onetwo").hexdigest()


def test_unknown_hash_is_not_checked(tmp_path: Path) -> None:
    """Own models have none."""
    check_sha256(ModelSource(name="mine", format="openai", weights=(tmp_path / "missing.pt",)))


def test_wrong_shapes_name_the_file(tmp_path: Path) -> None:
    """A file whose dimensions are not those of its tensors."""
    path = write_openai(tmp_path / "mine.pt", random_tensors(), replace(SMALL, n_vocab=12))

    with pytest.raises(CheckpointError, match=r"mine.pt: decoder.token_embedding.weight has shape \(11, 8\)"):
        load(resolve(str(path)))


def test_heads_of_a_larger_model_are_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Distilled weights that come with the alignment heads of their teacher are loaded, with a warning."""
    folder = write_huggingface(tmp_path / "mine", random_tensors())
    (folder / "generation_config.json").write_text('{"alignment_heads": [[9, 0]]}')

    assert load(resolve(str(folder))).alignment_heads is None

    assert "alignment head (9, 0) is outside" in caplog.text


def test_unreadable_files_are_our_error(tmp_path: Path) -> None:
    """Weights that vanished between being found and being read."""
    source = ModelSource(name="mine", format="ctranslate2", weights=(tmp_path / "model.bin",))

    with pytest.raises(CheckpointError, match=r"cannot be read"):
        load(source)
