"""Loads a network and its tokenizer onto a device: a model by name, or random weights of a published size."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import torch

from model import PUBLISHED_DIMENSIONS, Whisper, published_shapes
from streamer import weights
from streamer.errors import ModelNotFoundError
from streamer.text.tokenizer import Tokenizer

N_THREADS = 4
"""Threads that pack weights and read the vocabulary: half of a start by processor time that is not imports."""


def load_model(
    name: str, dtype: torch.dtype, device: torch.device, *, rounds_encoder: bool = False
) -> tuple[Whisper, Tokenizer]:
    """
    Load the network and the tokenizer of a model.

    Args:
        name: Published name, path, or repository, as for `weights.resolve`.
        dtype: Of weights and activations.
        device: Where the network runs.
        rounds_encoder: See `Whisper.from_tensors`.

    Raises:
        ModelNotFoundError: The weights are not on this machine.
        CheckpointError: The weights or the vocabulary are damaged or missing.
    """
    checkpoint = weights.load(weights.resolve(name))
    with ThreadPoolExecutor(N_THREADS, initializer=torch.set_num_threads, initargs=(1,)) as threads:
        tokenizer = threads.submit(weights.load_tokenizer, checkpoint)
        model = Whisper.from_tensors(
            checkpoint.dims,
            checkpoint.tensors,
            alignment_heads=checkpoint.alignment_heads,
            dtype=dtype,
            device=device,
            rounds_encoder=rounds_encoder,
            each=threads.map,
        )
        return model, tokenizer.result()


def random_model(
    name: str, dtype: torch.dtype, device: torch.device, *, rounds_encoder: bool = False
) -> tuple[Whisper, Tokenizer]:
    """
    A network of a published size with random weights: real speed, meaningless text.

    Args:
        name: Published size.
        dtype: Of weights and activations.
        device: Where the network runs.
        rounds_encoder: See `Whisper.from_tensors`.

    Raises:
        ModelNotFoundError: There is no published size of this name.
        CheckpointError: No vocabulary for this size is on this machine.
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
    model = Whisper.from_tensors(
        dims, tensors, alignment_heads=heads, dtype=dtype, device=device, rounds_encoder=rounds_encoder
    )
    return model, weights.build_tokenizer(weights.find_vocabulary(dims), dims.n_vocab)
