"""Weights on a device: a network and its tokenizer from a model name, or random ones of a published size."""

from __future__ import annotations

import torch

from model import PUBLISHED_DIMENSIONS, Whisper, published_shapes
from streamer import weights
from streamer.errors import ModelNotFoundError
from streamer.text.tokenizer import Tokenizer


def load_model(name: str, dtype: torch.dtype, device: torch.device) -> tuple[Whisper, Tokenizer]:
    """
    The network and the tokenizer of a model name or path.

    Raises:
        ModelNotFoundError, CheckpointError: The weights cannot be had.
    """
    checkpoint = weights.load(weights.resolve(name))
    model = Whisper.from_tensors(
        checkpoint.dims,
        checkpoint.tensors,
        alignment_heads=checkpoint.alignment_heads,
        dtype=dtype,
        device=device,
    )
    return model, weights.load_tokenizer(checkpoint)


def random_model(name: str, dtype: torch.dtype, device: torch.device) -> tuple[Whisper, Tokenizer]:
    """
    A network of a published size with random weights: right in speed, wrong in text.

    Raises:
        ModelNotFoundError: No such size.
        CheckpointError: No vocabulary is on this machine.
    """
    if name not in PUBLISHED_DIMENSIONS:
        sizes = ", ".join(PUBLISHED_DIMENSIONS)
        raise ModelNotFoundError(f"no published size {name!r}: random weights need one of {sizes}")
    dims = PUBLISHED_DIMENSIONS[name]
    generator = torch.Generator(device).manual_seed(0)
    tensors = {
        key: torch.randn(shape, generator=generator, device=device, dtype=dtype) * 0.02
        for key, shape in published_shapes(dims).items()
    }
    heads = weights.published_alignment_heads(name, dims)
    model = Whisper.from_tensors(dims, tensors, alignment_heads=heads, dtype=dtype, device=device)
    return model, weights.build_tokenizer(weights.find_vocabulary(dims), dims.n_vocab)
