"""Reader of Hugging Face folders: `config.json` and safetensors, in one file or in shards."""

from __future__ import annotations

from pathlib import Path

import msgspec
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from model import ModelDimensions
from streamer.errors import CheckpointError
from streamer.weights.alignment_heads import AlignmentHeads
from streamer.weights.checkpoint import Contents

__all__ = ["read_huggingface"]

# Applied in order, to names without the leading "model.".
RENAMED = (
    (".layers.", ".blocks."),
    (".embed_positions.weight", ".positional_embedding"),
    (".embed_tokens.", ".token_embedding."),
    (".self_attn_layer_norm.", ".attn_ln."),
    (".encoder_attn_layer_norm.", ".cross_attn_ln."),
    (".final_layer_norm.", ".mlp_ln."),
    ("encoder.layer_norm.", "encoder.ln_post."),
    ("decoder.layer_norm.", "decoder.ln."),
    (".self_attn.", ".attn."),
    (".encoder_attn.", ".cross_attn."),
    (".q_proj.", ".query."),
    (".k_proj.", ".key."),
    (".v_proj.", ".value."),
    (".out_proj.", ".out."),
    (".fc1.", ".mlp.0."),
    (".fc2.", ".mlp.2."),
)
TIED = "decoder.token_embedding.weight"


class Config(msgspec.Struct, frozen=True):
    """The part of `config.json` that gives the dimensions."""

    num_mel_bins: int
    max_source_positions: int
    d_model: int
    encoder_attention_heads: int
    encoder_layers: int
    vocab_size: int
    max_target_positions: int
    decoder_attention_heads: int
    decoder_layers: int

    def dimensions(self) -> ModelDimensions:
        """The same numbers under the published names; raises ValueError if they contradict one another."""
        return ModelDimensions(
            n_mels=self.num_mel_bins,
            n_audio_ctx=self.max_source_positions,
            n_audio_state=self.d_model,
            n_audio_head=self.encoder_attention_heads,
            n_audio_layer=self.encoder_layers,
            n_vocab=self.vocab_size,
            n_text_ctx=self.max_target_positions,
            n_text_state=self.d_model,
            n_text_head=self.decoder_attention_heads,
            n_text_layer=self.decoder_layers,
        )


class GenerationConfig(msgspec.Struct, frozen=True):
    """The part of `generation_config.json` that the network needs."""

    alignment_heads: list[tuple[int, int]] | None = None


def read_huggingface(folder: Path, weights: tuple[Path, ...]) -> Contents:
    """
    Read the tensors of a folder, mapped from its files and not copied.

    Args:
        folder: Holds `config.json` and, if the model has one, `generation_config.json`.
        weights: The safetensors file, or all shards.

    Raises:
        CheckpointError: A file is missing, truncated or of another format, or the projection is not tied.
    """
    dims = _dimensions(folder / "config.json")
    tensors: dict[str, Tensor] = {}
    for path in weights:
        tensors.update({published_name(name): tensor for name, tensor in _load(path).items()})
    projection = tensors.pop("proj_out.weight", None)
    if projection is not None and not (TIED in tensors and torch.equal(projection, tensors[TIED])):
        raise CheckpointError(f"{weights[0]}: proj_out is not the token embedding, Whisper ties them")
    return Contents(dims=dims, tensors=tensors, alignment_heads=_alignment_heads(folder))


def published_name(name: str) -> str:
    """Translate a tensor name of the transformers library to the name in OpenAI's state dict."""
    name = name.removeprefix("model.")
    for theirs, ours in RENAMED:
        name = name.replace(theirs, ours)
    return name


def _load(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: not a complete safetensors file: {error}") from error


def _dimensions(path: Path) -> ModelDimensions:
    if not path.is_file():
        raise CheckpointError(f"{path} is missing: it gives the dimensions of the safetensors beside it")
    try:
        return msgspec.json.decode(path.read_bytes(), type=Config).dimensions()
    except (ValueError, RecursionError) as error:  # msgspec's own among them
        raise CheckpointError(f"{path}: {error}") from error


def _alignment_heads(folder: Path) -> AlignmentHeads | None:
    path = folder / "generation_config.json"
    if not path.is_file():
        return None
    try:
        heads = msgspec.json.decode(path.read_bytes(), type=GenerationConfig).alignment_heads
    except (ValueError, RecursionError) as error:  # msgspec's own among them
        raise CheckpointError(f"{path}: {error}") from error
    return tuple(sorted(set(heads))) if heads else None
