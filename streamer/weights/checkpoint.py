"""What reading weights gives, whatever the format, and the check of names and shapes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from model import ModelDimensions, published_shapes
from streamer.errors import CheckpointError
from streamer.weights.alignment_heads import AlignmentHeads

__all__ = ["Checkpoint", "Contents", "check_tensors", "is_multilingual"]

N_VOCAB_MULTILINGUAL = 51865
"""Smallest vocabulary of a multilingual model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """What one of the three readers found in its files; nothing is checked against anything yet."""

    dims: ModelDimensions
    tensors: dict[str, Tensor]
    """Under the names of the published state dict, in the dtype stored, on the CPU."""
    alignment_heads: AlignmentHeads | None
    """None where the files do not say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """Checked weights of one model, ready for `model.Whisper.from_tensors`."""

    name: str
    dims: ModelDimensions
    tensors: dict[str, Tensor]
    """
    Exactly the names and shapes of `published_shapes(dims)`, in the dtype stored, on the CPU. Some are
    views of one memory and some are mapped from the file: convert or copy them, never write to them.
    """
    alignment_heads: AlignmentHeads | None
    """None for models that publish none: the network then takes every head of its last half."""
    vocabulary: Path
    """File the tokenizer is built from."""

    @property
    def multilingual(self) -> bool:
        """Whether the model knows more than English."""
        return is_multilingual(self.dims)


def is_multilingual(dims: ModelDimensions) -> bool:
    """Whether a model of these dimensions knows more than English."""
    return dims.n_vocab >= N_VOCAB_MULTILINGUAL


def check_tensors(label: str, dims: ModelDimensions, tensors: Mapping[str, Tensor]) -> None:
    """
    Args:
        label: File name, for the message.

    Raises:
        CheckpointError: A tensor is missing or unknown, or has another shape or kind than the dimensions say.
    """
    shapes = published_shapes(dims)
    for name, shape in shapes.items():
        if name not in tensors:
            raise CheckpointError(f"{label}: {name} is missing, the dimensions ask for it with shape {shape}")
        found = tuple(tensors[name].shape)
        if found != shape:
            raise CheckpointError(f"{label}: {name} has shape {found}, dimensions say {shape}")
        if not tensors[name].is_floating_point():
            raise CheckpointError(f"{label}: {name} has dtype {tensors[name].dtype}, expected a floating one")
    for name in tensors:
        if name not in shapes:
            raise CheckpointError(f"{label}: {name} is not part of a network of these dimensions")
