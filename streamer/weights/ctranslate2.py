"""
Reader of CTranslate2 folders, the format of faster-whisper: `model.bin`, whole or in parts.

The container, little endian: u32 version, spec name, u32 revision, u32 count; then for each variable its
name, u8 rank, u32 per dimension, u8 type, u32 bytes, data; then u32 count of aliases and a pair of names for
each. A name is u16 length, with the NUL that ends it, and bytes.

Source: `ModelSpec` of CTranslate2; verified against the published PyTorch models.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import msgspec
import torch
from torch import Tensor

from model import ModelDimensions
from streamer.errors import CheckpointError
from streamer.weights.alignment_heads import AlignmentHeads
from streamer.weights.checkpoint import Contents

__all__ = ["read_ctranslate2"]

VERSION = 6
MAX_RANK = 4
"""Most axes of a variable; the network has at most three."""
SPEC = "WhisperSpec"
DTYPES = (torch.float32, torch.int8, torch.int16, torch.int32, torch.float16, torch.bfloat16)
D_HEAD = 64
"""Width of an attention head in every published model, for files without a number of heads."""

# Applied in order; "+" joins the names of tensors that are stacked in one variable.
RENAMED = (
    ("/self_attention/layer_norm/", "/attn_ln/"),
    ("/self_attention/linear_0/", "/attn/query+key+value/"),
    ("/self_attention/linear_1/", "/attn/out/"),
    ("/attention/layer_norm/", "/cross_attn_ln/"),
    ("/attention/linear_0/", "/cross_attn/query/"),
    ("/attention/linear_1/", "/cross_attn/key+value/"),
    ("/attention/linear_2/", "/cross_attn/out/"),
    ("/ffn/layer_norm/", "/mlp_ln/"),
    ("/ffn/linear_0/", "/mlp/0/"),
    ("/ffn/linear_1/", "/mlp/2/"),
    ("encoder/layer_norm/", "encoder/ln_post/"),
    ("decoder/layer_norm/", "decoder/ln/"),
    ("/position_encodings/encodings", "/positional_embedding"),
    ("/embeddings/", "/token_embedding/"),
    ("/layer_", "/blocks/"),
    ("/gamma", "/weight"),
    ("/beta", "/bias"),
    ("/", "."),
)
WEIGHTS = ("/weight", "/bias", "/gamma", "/beta", "/encodings")
PROJECTION = "decoder/projection/weight"
EMBEDDING = "decoder/embeddings/weight"


class Config(msgspec.Struct, frozen=True):
    """The part of `config.json` that the network needs."""

    alignment_heads: list[tuple[int, int]] | None = None


class PartsReader:
    """
    Reads several files as one stream; every read is complete or raises.

    Args:
        paths: The files in order; closed when the context ends.
    """

    def __init__(self, paths: tuple[Path, ...]) -> None:
        self.name = str(paths[0])
        self.remaining = sum(path.stat().st_size for path in paths)
        """Bytes that are not read yet."""
        self._paths = paths
        self._stack = ExitStack()

    def __enter__(self) -> PartsReader:
        self._files = [self._stack.enter_context(path.open("rb")) for path in self._paths]
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def fill(self, buffer: memoryview, what: str) -> None:
        """
        Fill the whole buffer.

        Args:
            buffer: Receives the next bytes.
            what: Name of the data, for the error message.

        Raises:
            CheckpointError: Fewer bytes are left; nothing was read.
        """
        self.require(len(buffer), what)
        self.remaining -= len(buffer)
        while buffer:
            read = self._files[0].readinto(buffer)
            buffer = buffer[read:]
            if not read:
                self._files.pop(0)

    def require(self, n_bytes: int, what: str) -> None:
        """
        Check that `n_bytes` are left for `what`.

        Raises:
            CheckpointError: Fewer bytes are left.
        """
        if n_bytes > self.remaining:
            raise CheckpointError(f"{self.name} is truncated: {what} needs {n_bytes} bytes, {self.remaining} are left")

    def numbers(self, layout: str, what: str) -> tuple[int, ...]:
        """Integers in a layout of `struct`, little endian, without padding; `what` names them in the error message."""
        data = bytearray(struct.calcsize("<" + layout))
        self.fill(memoryview(data), what)
        return struct.unpack("<" + layout, data)

    def text(self, what: str) -> str:
        """A string with its length in front; `what` names it in the error message."""
        (length,) = self.numbers("H", what)
        data = bytearray(length)
        self.fill(memoryview(data), what)
        return data.removesuffix(b"\0").decode("utf-8", errors="replace")


def read_ctranslate2(folder: Path, weights: tuple[Path, ...]) -> Contents:
    """
    Read the tensors of a folder; int8 and int16 tensors are dequantised to float32.

    Args:
        folder: Holds `config.json`, if the model has one.
        weights: `model.bin`, or its parts in order.

    Raises:
        CheckpointError: The file is truncated, has another format or version, or is not a Whisper model.
    """
    with PartsReader(weights) as reader:
        variables, aliases = _read_container(reader)
    label = str(weights[0])
    _check_tied(label, variables, aliases)
    dims = _dimensions(label, variables)
    tensors: dict[str, Tensor] = {}
    for name, tensor in _dequantised(label, variables):
        tensors.update(_published(label, name, tensor))
    return Contents(dims=dims, tensors=tensors, alignment_heads=_alignment_heads(folder / "config.json"))


def _read_container(reader: PartsReader) -> tuple[dict[str, Tensor], dict[str, str]]:
    (version,) = reader.numbers("I", "the version")
    if version != VERSION:
        raise CheckpointError(
            f"{reader.name} is not a CTranslate2 model: version {version}, expected {VERSION}; "
            "convert older ones again with ct2-transformers-converter"
        )
    spec = reader.text("the name of the model kind")
    if spec != SPEC:
        raise CheckpointError(f"{reader.name} is a CTranslate2 model of kind {spec!r}, expected {SPEC!r}")
    _revision, n_variables = reader.numbers("II", "the header")
    variables = dict(_read_variable(reader) for _ in range(n_variables))
    (n_aliases,) = reader.numbers("I", "the number of aliases")
    aliases = {reader.text("an alias"): reader.text("an alias") for _ in range(n_aliases)}
    return variables, aliases


def _read_variable(reader: PartsReader) -> tuple[str, Tensor]:
    name = reader.text("the name of a variable")
    (rank,) = reader.numbers("B", name)
    *shape, type_id, n_bytes = reader.numbers(f"{rank}IBI", name)
    if type_id >= len(DTYPES):
        raise CheckpointError(f"{reader.name}: {name} has type {type_id}, expected 0 to {len(DTYPES) - 1}")
    if rank > MAX_RANK or 0 in shape:
        raise CheckpointError(
            f"{reader.name}: {name} has shape {shape}, expected at most {MAX_RANK} sizes, all positive"
        )
    dtype = DTYPES[type_id]
    if n_bytes != math.prod(shape) * dtype.itemsize:
        raise CheckpointError(f"{reader.name}: {name} has {n_bytes} bytes, not {dtype} of shape {shape}")
    # before the memory is allocated: a damaged header may name any size
    reader.require(n_bytes, name)
    data = torch.empty(n_bytes, dtype=torch.uint8)
    reader.fill(data.numpy().data, name)
    return name, data.view(dtype).reshape(shape)


def _check_tied(label: str, variables: dict[str, Tensor], aliases: dict[str, str]) -> None:
    if aliases.get(PROJECTION) == EMBEDDING:
        return
    projection, embedding = variables.pop(PROJECTION, None), variables.get(EMBEDDING)
    if projection is None or embedding is None or not torch.equal(projection, embedding):
        raise CheckpointError(f"{label}: {PROJECTION} is not {EMBEDDING}, Whisper ties them")
    variables.pop(PROJECTION + "_scale", None)


def _dimensions(label: str, variables: dict[str, Tensor]) -> ModelDimensions:
    """Dimensions implied by some of the shapes; `check_tensors` later checks all shapes against them."""
    try:
        n_state, n_mels, _ = variables["encoder/conv1/weight"].shape
        n_audio_ctx, _ = variables["encoder/position_encodings/encodings"].shape
        n_text_ctx, _ = variables["decoder/position_encodings/encodings"].shape
        n_vocab, n_text_state = variables[EMBEDDING].shape
        return ModelDimensions(
            n_mels=n_mels,
            n_audio_ctx=n_audio_ctx,
            n_audio_state=n_state,
            n_audio_head=_n_heads(variables, "encoder", n_state),
            n_audio_layer=_n_layers(variables, "encoder"),
            n_vocab=n_vocab,
            n_text_ctx=n_text_ctx,
            n_text_state=n_text_state,
            n_text_head=_n_heads(variables, "decoder", n_text_state),
            n_text_layer=_n_layers(variables, "decoder"),
        )
    except KeyError as error:
        raise CheckpointError(f"{label}: {error.args[0]} is missing") from error
    except ValueError as error:
        raise CheckpointError(f"{label}: not the shapes of a Whisper model: {error}") from error


def _n_heads(variables: dict[str, Tensor], side: str, n_state: int) -> int:
    stored = variables.get(f"{side}/num_heads")
    if stored is None:
        return n_state // D_HEAD
    if stored.numel() != 1 or stored.is_floating_point():
        raise ValueError(f"{side}/num_heads is {stored.dtype} of shape {tuple(stored.shape)}, expected one integer")
    return int(stored.item())


def _n_layers(variables: dict[str, Tensor], side: str) -> int:
    return len({name.split("/")[1] for name in variables if name.startswith(f"{side}/layer_")} - {"layer_norm"})


def _dequantised(label: str, variables: dict[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    for name, tensor in variables.items():
        if not name.endswith(WEIGHTS):
            continue
        if not tensor.ndim:
            raise CheckpointError(f"{label}: {name} is a single number, expected rows")
        scale = variables.get(name + "_scale")
        if scale is not None:
            # one scale per output row, or one for all: stored = round(weight * scale)
            if scale.numel() not in (1, len(tensor)):
                raise CheckpointError(f"{label}: {name}_scale has shape {tuple(scale.shape)} for {len(tensor)} rows")
            tensor = tensor.float() / scale.float().reshape(-1, *[1] * (tensor.ndim - 1))
        yield name, tensor


def _published(label: str, name: str, tensor: Tensor) -> Iterator[tuple[str, Tensor]]:
    """Published names and tensors of one variable: several if it stacks query, key and value."""
    for theirs, ours in RENAMED:
        name = name.replace(theirs, ours)
    *scope, stacked, kind = name.split(".")
    parts = stacked.split("+")
    if len(tensor) % len(parts):
        raise CheckpointError(f"{label}: {name} has {len(tensor)} rows, expected a multiple of {len(parts)}")
    for part, rows in zip(parts, tensor.chunk(len(parts)), strict=True):
        if part == "key" and kind == "bias":
            if rows.any():
                raise CheckpointError(f"{label}: {name} has a bias for keys, Whisper has none")
            continue
        yield ".".join([*scope, part, kind]), rows


def _alignment_heads(path: Path) -> AlignmentHeads | None:
    if not path.is_file():
        return None
    try:
        heads = msgspec.json.decode(path.read_bytes(), type=Config).alignment_heads
    except (ValueError, RecursionError) as error:  # msgspec's own among them
        raise CheckpointError(f"{path}: {error}") from error
    return tuple(sorted(set(heads))) if heads else None
