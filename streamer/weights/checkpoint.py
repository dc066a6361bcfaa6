"""Weights that were read from any format, and the check of their names and shapes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from model import ModelDimensions, published_shapes
from streamer.errors import CheckpointError
from streamer.weights.alignment_heads import AlignmentHeads

__all__ = ["Checkpoint", "Contents", "check_tensors"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """Result of one of the three readers, before the checks."""

    dims: ModelDimensions
    tensors: dict[str, Tensor]
    """Under the names of the published state dict, in the stored dtype, on the CPU."""
    alignment_heads: AlignmentHeads | None
    """None if the files name none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """Checked weights of one model, ready for `model.Whisper.from_tensors`."""

    name: str
    dims: ModelDimensions
    tensors: dict[str, Tensor]
    """
    Exactly the names and shapes of `published_shapes(dims)`, in the stored dtype, on the CPU. Some share memory and
    some are mapped from the file: convert or copy them, never write to them.
    """
    alignment_heads: AlignmentHeads | None
    """None for models that publish none: the network then uses every head of the later half of its layers."""
    vocabulary: Path
    """File from which the tokenizer is built."""

    @property
    def multilingual(self) -> bool:
        """Whether the model is multilingual, not English-only."""
        return self.dims.is_multilingual


def check_tensors(label: str, dims: ModelDimensions, tensors: Mapping[str, Tensor]) -> None:
    """
    Check names, shapes and dtypes against `published_shapes`.

    Args:
        label: File name, for the error message.
        dims: Of the network.
        tensors: Each must have the shape of its name in `published_shapes(dims)`, and a floating dtype.

    Raises:
        CheckpointError: A tensor is missing or unknown, or has a wrong shape or dtype.
    """
    shapes = published_shapes(dims)
    for name, shape in shapes.items():
        if name not in tensors:
            raise CheckpointError(f"{label}: {name} is missing, dimensions require it with shape {shape}")
        found = tuple(tensors[name].shape)
        if found != shape:
            raise CheckpointError(f"{label}: {name} has shape {found}, dimensions say {shape}")
        if not tensors[name].is_floating_point():
            raise CheckpointError(f"{label}: {name} has dtype {tensors[name].dtype}, expected a floating one")
    for name in tensors:
        if name not in shapes:
            raise CheckpointError(f"{label}: {name} is not part of a network of these dimensions")
