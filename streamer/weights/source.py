"""Location of weights on this machine: one record, and its detection in a file or folder."""

from __future__ import annotations

import os.path
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

__all__ = ["Format", "ModelSource", "source_at"]

Format = Literal["openai", "huggingface", "ctranslate2"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSource:
    """Location of weights on this machine."""

    name: str
    """Published name; for other models the name of the file or folder."""
    format: Format
    weights: tuple[Path, ...]
    """The files with the tensors, in reading order, at least one."""
    sha256: str | None = None
    """Expected hash of the concatenated weights; None if none is published."""

    @property
    def folder(self) -> Path:
        """Folder of the configuration and the vocabulary."""
        return self.weights[0].parent

    @property
    def path(self) -> Path:
        """Path to show to the user: the file, or for other formats the folder."""
        return self.weights[0] if self.format == "openai" else self.folder

    @property
    def size_bytes(self) -> int:
        """Total size of the weights files."""
        return sum(path.stat().st_size for path in self.weights)


def source_at(path: Path, name: str, sha256: str | None = None) -> ModelSource | None:
    """
    Detect weights in a file or folder by file names alone.

    Args:
        path: File or folder.
        name: Of the model.
        sha256: Expected hash, if one is published.

    Returns:
        Their location; None if there are none.
    """
    # those of os.path: a folder that this account may not look into holds nothing for it, and is no error
    found = _in_folder(path) if os.path.isdir(path) else _in_file(path)
    if found is None:
        return None
    format_, weights = found
    return ModelSource(name=name, format=format_, weights=weights, sha256=sha256)


def _in_file(path: Path) -> tuple[Format, tuple[Path, ...]] | None:
    if not os.path.isfile(path):
        return None
    if path.suffix == ".safetensors":
        return "huggingface", (path,)
    return "ctranslate2" if path.name == "model.bin" else "openai", (path,)


def _in_folder(folder: Path) -> tuple[Format, tuple[Path, ...]] | None:
    patterns: tuple[tuple[Format, str], ...] = (
        ("ctranslate2", "model.bin"),
        ("ctranslate2", "model.bin.part[1-9]"),
        ("huggingface", "model.safetensors"),
        ("huggingface", "model-*-of-*.safetensors"),
        ("openai", "*.pt"),
    )
    for format_, pattern in patterns:
        files = tuple(sorted(path for path in folder.glob(pattern) if path.is_file()))
        # two `.pt` files are two models, and nothing says which one is meant
        if files and (format_ != "openai" or len(files) == 1):
            return format_, files
    return None
