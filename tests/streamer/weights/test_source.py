"""Which files are weights, told by their names."""

from __future__ import annotations

from pathlib import Path

import pytest

from streamer.weights.source import source_at


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).write_bytes(b"12345")


@pytest.mark.parametrize(
    ("present", "expected_format", "weights"),
    [
        (["model.bin", "config.json"], "ctranslate2", ["model.bin"]),
        (["model.bin.part2", "model.bin.part1"], "ctranslate2", ["model.bin.part1", "model.bin.part2"]),
        (
            ["model.safetensors", "model.fp32-00001-of-00002.safetensors"],
            "huggingface",
            ["model.safetensors"],
        ),
        (
            ["model-00002-of-00002.safetensors", "model-00001-of-00002.safetensors"],
            "huggingface",
            ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"],
        ),
        (["tiny.pt", "gpt2.tiktoken"], "openai", ["tiny.pt"]),
    ],
)
def test_each_format_has_its_file_names(
    tmp_path: Path, present: list[str], expected_format: str, weights: list[str]
) -> None:
    """Each format has its file names; parts and shards come in order."""
    touch(tmp_path, *present)

    source = source_at(tmp_path, "mine")

    assert source is not None
    assert source.format == expected_format
    assert source.weights == tuple(tmp_path / name for name in weights)
    assert source.folder == tmp_path
    assert source.path == (tmp_path / "tiny.pt" if expected_format == "openai" else tmp_path)
    assert source.size_bytes == 5 * len(weights)


@pytest.mark.parametrize("present", [[], ["pytorch_model.bin"], ["a.pt", "b.pt"], ["model.bin.partial"]])
def test_folders_without_weights_are_nothing(tmp_path: Path, present: list[str]) -> None:
    """Nothing, what must not be unpickled, what is ambiguous, what is not complete."""
    touch(tmp_path, *present)

    assert source_at(tmp_path, "mine") is None


@pytest.mark.parametrize(
    ("name", "expected_format"),
    [("a.safetensors", "huggingface"), ("model.bin", "ctranslate2"), ("a.pt", "openai"), ("a.pth", "openai")],
)
def test_a_file_is_taken_by_its_name(tmp_path: Path, name: str, expected_format: str) -> None:
    """A file is taken by its name."""
    touch(tmp_path, name)

    source = source_at(tmp_path / name, "mine")

    assert source is not None
    assert source.format == expected_format


def test_a_path_that_does_not_exist_is_nothing(tmp_path: Path) -> None:
    """A path that does not exist."""
    assert source_at(tmp_path / "x", "mine") is None
