"""The same weights in the two formats that rivals read."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from streamer import weights
from streamer.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Weights:
    """One model, for every system."""

    name: str
    ctranslate2: Path
    """Folder, as faster-whisper reads it."""
    openai: Path
    """A `.pt` file with the same tensors; its name must be the model's, which tells whether it knows English only."""


def find_weights(name: str, folder: Path) -> Weights:
    """
    Weights on this machine; the `.pt` is written into `folder` where it is not there yet.

    Raises:
        ConfigError: The weights are no CTranslate2 folder.
        ModelNotFoundError: They are not on this machine.
    """
    source = weights.resolve(name)
    if source.format != "ctranslate2" or source.folder is None:
        raise ConfigError(f"{source.path}: these weights are of the format {source.format}, rivals need ctranslate2")
    path = folder / f"{source.name}.pt"
    if not path.exists():
        checkpoint = weights.load(source)
        # tensors may be views of one memory: as clones each is stored once
        tensors = {name: tensor.clone() for name, tensor in checkpoint.tensors.items()}
        torch.save({"dims": asdict(checkpoint.dims), "model_state_dict": tensors}, path)
    return Weights(source.name, source.folder, path)
