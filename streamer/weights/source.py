"""Where weights lie on this machine: one record, and how it is found in a file or folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

__all__ = ["Format", "ModelSource", "source_at"]

Format = Literal["openai", "huggingface", "ctranslate2"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSource:
    """Weights that are on this machine."""

    name: str
    """Published name; for other models the name of the file or folder."""
    format: Format
    weights: tuple[Path, ...]
    """The files with the tensors, in reading order, at least one."""
    sha256: str | None = None
    """Expected of the weights, one after the other; None where nobody published it."""

    @property
    def folder(self) -> Path:
        """Where the configuration and the vocabulary are looked for."""
        return self.weights[0].parent

    @property
    def path(self) -> Path:
        """What to show to the user: the file, or the folder when there is more to it."""
        return self.weights[0] if self.format == "openai" else self.folder

    @property
    def size_bytes(self) -> int:
        """Size of the weights."""
        return sum(path.stat().st_size for path in self.weights)


def source_at(path: Path, name: str, sha256: str | None = None) -> ModelSource | None:
    """The weights in a file or folder, told by file names alone; None when there are none."""
    found = _in_folder(path) if path.is_dir() else _in_file(path)
    if found is None:
        return None
    format_, weights = found
    return ModelSource(name=name, format=format_, weights=weights, sha256=sha256)


def _in_file(path: Path) -> tuple[Format, tuple[Path, ...]] | None:
    if not path.is_file():
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
        # Two `.pt` files are two models, and nobody said which.
        if files and (format_ != "openai" or len(files) == 1):
            return format_, files
    return None
