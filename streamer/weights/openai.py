"""Reader of OpenAI's `.pt` files: zip archives with `dims` and `model_state_dict`, read by the restricted unpickler."""

from __future__ import annotations

import pickle
import struct
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from model import ModelDimensions
from streamer.errors import CheckpointError
from streamer.weights.checkpoint import Contents

__all__ = ["read_openai"]

DAMAGE = (
    *(RuntimeError, EOFError, LookupError, ValueError, TypeError),
    *(AttributeError, AssertionError, struct.error),
)
"""Errors of the restricted unpickler for damaged input; it has no error class of its own."""
DAMAGED_ARCHIVE = (ValueError, OverflowError, NotImplementedError, struct.error)
"""Errors of zipfile beside BadZipFile for a damaged directory: undecodable names, unknown versions."""


def read_openai(path: Path) -> Contents:
    """
    Read the tensors of a `.pt` file, mapped from it and not copied.

    Raises:
        CheckpointError: The file is not a zip archive written by PyTorch, is truncated, holds anything but plain
            tensors and numbers, or lacks `dims` or `model_state_dict`.
    """
    _check_archive(path)
    loaded = _load(path)
    if not isinstance(loaded, dict) or not {"dims", "model_state_dict"} <= loaded.keys():
        found = ", ".join(sorted(map(str, loaded))[:5]) if isinstance(loaded, dict) else type(loaded).__name__
        raise CheckpointError(f"{path}: expected dims and model_state_dict, found {found or 'nothing'}")
    tensors = loaded["model_state_dict"]
    if not isinstance(tensors, dict) or not all(isinstance(value, Tensor) for value in tensors.values()):
        raise CheckpointError(f"{path}: model_state_dict is not a dictionary of tensors")
    return Contents(dims=_dimensions(path, loaded["dims"]), tensors=dict(tensors), alignment_heads=None)


def _check_archive(path: Path) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, *DAMAGED_ARCHIVE) as error:
        with path.open("rb") as file:
            is_zip = file.read(4) == b"PK\x03\x04"
        reason = "is truncated or damaged" if is_zip else "is not a PyTorch checkpoint (a zip archive)"
        raise CheckpointError(f"{path} {reason}: {path.stat().st_size} bytes") from error
    files = {name.rpartition("/")[2] for name in names}
    if "data.pkl" not in files or "constants.pkl" in files:
        raise CheckpointError(f"{path}: a zip archive, but not one that torch.save wrote")


def _load(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(f"{path}: holds more than plain tensors, and is not unpickled") from error
    except DAMAGE as error:
        raise CheckpointError(f"{path}: damaged, PyTorch cannot read it") from error


def _dimensions(path: Path, dims: object) -> ModelDimensions:
    try:
        return ModelDimensions(**dims)  # type: ignore[arg-type]  # content of the file: refused below
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: dims: {error}") from error
