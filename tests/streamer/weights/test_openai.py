"""The reader of `.pt` files."""

from __future__ import annotations

import pickle
import re
import zipfile
from pathlib import Path

import pytest
import torch

from streamer.errors import CheckpointError
from streamer.weights.openai import read_openai
from tests.streamer.weights.writers import SMALL, as_dict, random_tensors, write_openai


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_tensors_and_dimensions_come_back(tmp_path: Path, dtype: torch.dtype) -> None:
    """What torch.save wrote is read in the dtype stored."""
    tensors = random_tensors(dtype=dtype)

    contents = read_openai(write_openai(tmp_path / "small.pt", tensors))

    assert contents.dims == SMALL
    assert contents.alignment_heads is None
    assert contents.tensors.keys() == tensors.keys()
    assert all(torch.equal(contents.tensors[name], tensors[name]) for name in tensors)


@pytest.mark.parametrize("kept", [0, 1, 30, 2000, 0.5, 0.9, 0.999])
def test_truncated_files_say_so(tmp_path: Path, kept: float) -> None:
    """Cut anywhere, a file is refused with its name and size."""
    path = write_openai(tmp_path / "small.pt", random_tensors())
    data = path.read_bytes()
    n_kept = int(kept * len(data)) if 0 < kept < 1 else int(kept)
    path.write_bytes(data[:n_kept])

    with pytest.raises(CheckpointError, match=rf"small.pt is (truncated or damaged|not a PyTorch .*): {n_kept} bytes"):
        read_openai(path)


@pytest.mark.parametrize("data", [b"\x89PNG\r\n\x1a\n" + bytes(100), b'{"dims": {}}', pickle.dumps({"dims": 1})])
def test_foreign_files_are_refused(tmp_path: Path, data: bytes) -> None:
    """Pictures, JSON and bare pickles are not even looked into."""
    (tmp_path / "x.pt").write_bytes(data)

    with pytest.raises(CheckpointError, match=r"x.pt is not a PyTorch checkpoint"):
        read_openai(tmp_path / "x.pt")


def test_other_archives_are_refused(tmp_path: Path) -> None:
    """A zip archive of something else."""
    with zipfile.ZipFile(tmp_path / "x.pt", "w") as archive:
        archive.writestr("readme.txt", "hello")

    with pytest.raises(CheckpointError, match=r"not one that torch.save wrote"):
        read_openai(tmp_path / "x.pt")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"weights": torch.zeros(2)}, "expected dims and model_state_dict, found weights"),
        ([1, 2], "expected dims and model_state_dict, found list"),
        (
            {"dims": as_dict(SMALL), "model_state_dict": {"x": 1}},
            "model_state_dict is not a dictionary of tensors",
        ),
        ({"dims": {"n_mels": 80}, "model_state_dict": {}}, "dims: .*missing"),
        ({"dims": 5, "model_state_dict": {}}, "dims: .*mapping"),
        ({"dims": as_dict(SMALL) | {"n_mels": 0}, "model_state_dict": {}}, "dims: n_mels = 0"),
    ],
)
def test_other_checkpoints_are_refused(tmp_path: Path, content: object, message: str) -> None:
    """Archives of torch.save that hold something else."""
    torch.save(content, tmp_path / "x.pt")

    with pytest.raises(CheckpointError, match=f"x.pt: {message}"):
        read_openai(tmp_path / "x.pt")


def test_code_in_a_checkpoint_never_runs(tmp_path: Path) -> None:
    """An object whose unpickling would call a function is refused, and the function is not called."""
    victim = tmp_path / "victim"
    victim.touch()

    class Malicious:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return Path.unlink, (victim,)  # type: ignore[return-value]  # what an attacker would write

    torch.save({"dims": Malicious(), "model_state_dict": {}}, tmp_path / "x.pt")

    with pytest.raises(CheckpointError, match="holds more than plain tensors"):
        read_openai(tmp_path / "x.pt")
    assert victim.exists()


@pytest.mark.parametrize("position", [0, 5, 20])
def test_damaged_pickles_are_refused(tmp_path: Path, position: int) -> None:
    """Zeros in the middle of the pickle give our error, not the unpickler's."""
    path = write_openai(tmp_path / "small.pt", random_tensors())
    data = bytearray(path.read_bytes())
    match = re.search(rb"dims", data)
    assert match
    data[match.start() + position : match.start() + position + 4] = bytes(4)
    path.write_bytes(data)

    with pytest.raises(CheckpointError, match=r"small.pt"):
        read_openai(path)
