"""Writes tensors in each of the three formats, so that readers can be tested on files of a few kilobytes."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from model import ModelDimensions, published_shapes

SMALL = ModelDimensions(
    n_mels=3,
    n_audio_ctx=5,
    n_audio_state=8,
    n_audio_head=2,
    n_audio_layer=2,
    n_vocab=11,
    n_text_ctx=7,
    n_text_state=8,
    n_text_head=2,
    n_text_layer=3,
)
FIELDS = tuple(ModelDimensions.__dataclass_fields__)
CT2_TYPES = {
    torch.float32: 0,
    torch.int8: 1,
    torch.int16: 2,
    torch.int32: 3,
    torch.float16: 4,
    torch.bfloat16: 5,
}


def random_tensors(dims: ModelDimensions = SMALL, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    """Seeded tensors of every published name."""
    generator = torch.Generator().manual_seed(0)
    shapes = published_shapes(dims)
    return {name: torch.randn(shape, generator=generator).to(dtype) for name, shape in shapes.items()}


def as_dict(dims: ModelDimensions) -> dict[str, int]:
    """The ten numbers by name."""
    return {field: getattr(dims, field) for field in FIELDS}


def write_openai(path: Path, tensors: dict[str, Tensor], dims: ModelDimensions = SMALL) -> Path:
    """A `.pt` file as OpenAI publishes them."""
    torch.save({"dims": as_dict(dims), "model_state_dict": tensors}, path)
    return path


def write_huggingface(
    folder: Path, tensors: dict[str, Tensor], dims: ModelDimensions = SMALL, n_shards: int = 1
) -> Path:
    """A folder as the transformers library writes it."""
    folder.mkdir(exist_ok=True)
    named = {huggingface_name(name): tensor.contiguous().clone() for name, tensor in tensors.items()}
    for shard in range(n_shards):
        part = dict(list(named.items())[shard::n_shards])
        number = f"-{shard + 1:05}-of-{n_shards:05}" if n_shards > 1 else ""
        save_file(part, folder / f"model{number}.safetensors")
    (folder / "config.json").write_text(json.dumps(huggingface_config(dims)))
    return folder


def huggingface_config(dims: ModelDimensions) -> dict[str, object]:
    """What `config.json` says about the dimensions, and something it says beside."""
    return {
        "architectures": ["WhisperForConditionalGeneration"],
        "num_mel_bins": dims.n_mels,
        "max_source_positions": dims.n_audio_ctx,
        "d_model": dims.n_audio_state,
        "encoder_attention_heads": dims.n_audio_head,
        "encoder_layers": dims.n_audio_layer,
        "vocab_size": dims.n_vocab,
        "max_target_positions": dims.n_text_ctx,
        "decoder_attention_heads": dims.n_text_head,
        "decoder_layers": dims.n_text_layer,
    }


def huggingface_name(name: str) -> str:
    """Published name -> name in the transformers library."""
    for ours, theirs in (
        ("blocks", "layers"),
        ("positional_embedding", "embed_positions.weight"),
        ("token_embedding", "embed_tokens"),
        ("cross_attn_ln", "encoder_attn_layer_norm"),
        ("mlp_ln", "final_layer_norm"),
        ("ln_post", "layer_norm"),
        ("decoder.ln", "decoder.layer_norm"),
        (".attn_ln", ".self_attn_layer_norm"),
        (".cross_attn.", ".encoder_attn."),
        (".attn.", ".self_attn."),
        ("query", "q_proj"),
        ("key", "k_proj"),
        ("value", "v_proj"),
        (".out.", ".out_proj."),
        ("mlp.0", "fc1"),
        ("mlp.2", "fc2"),
    ):
        name = name.replace(ours, theirs)
    return f"model.{name}"


def ctranslate2_variables(tensors: dict[str, Tensor], dims: ModelDimensions = SMALL) -> dict[str, Tensor]:
    """Tensors under CTranslate2's names, stacked as CTranslate2 does."""
    variables = {
        "encoder/num_heads": torch.tensor(dims.n_audio_head, dtype=torch.int16),
        "decoder/num_heads": torch.tensor(dims.n_text_head, dtype=torch.int16),
        "decoder/pre_norm": torch.tensor(1, dtype=torch.int8),
        "decoder/embeddings/weight": tensors["decoder.token_embedding.weight"],
    }
    for conv in ("conv1", "conv2"):
        for kind in ("weight", "bias"):
            variables[f"encoder/{conv}/{kind}"] = tensors[f"encoder.{conv}.{kind}"]
    for side, norm, n_layer in (
        ("encoder", "ln_post", dims.n_audio_layer),
        ("decoder", "ln", dims.n_text_layer),
    ):
        variables[f"{side}/position_encodings/encodings"] = tensors[f"{side}.positional_embedding"]
        variables |= _norm(tensors, f"{side}.{norm}", f"{side}/layer_norm")
        for layer in range(n_layer):
            variables |= _layer(tensors, f"{side}.blocks.{layer}.", f"{side}/layer_{layer}/")
    return variables


def _norm(tensors: dict[str, Tensor], ours: str, theirs: str) -> dict[str, Tensor]:
    return {f"{theirs}/gamma": tensors[f"{ours}.weight"], f"{theirs}/beta": tensors[f"{ours}.bias"]}


def _stacked(tensors: dict[str, Tensor], ours: str, parts: str, theirs: str) -> dict[str, Tensor]:
    weights = [tensors[f"{ours}.{part}.weight"] for part in parts.split()]
    biases = [tensors.get(f"{ours}.{part}.bias", torch.zeros_like(weights[0][:, 0])) for part in parts.split()]
    return {f"{theirs}/weight": torch.cat(weights), f"{theirs}/bias": torch.cat(biases)}


def _layer(tensors: dict[str, Tensor], ours: str, theirs: str) -> dict[str, Tensor]:
    variables = {
        **_norm(tensors, f"{ours}attn_ln", f"{theirs}self_attention/layer_norm"),
        **_stacked(tensors, f"{ours}attn", "query key value", f"{theirs}self_attention/linear_0"),
        **_stacked(tensors, f"{ours}attn", "out", f"{theirs}self_attention/linear_1"),
        **_norm(tensors, f"{ours}mlp_ln", f"{theirs}ffn/layer_norm"),
        **_stacked(tensors, f"{ours}mlp", "0", f"{theirs}ffn/linear_0"),
        **_stacked(tensors, f"{ours}mlp", "2", f"{theirs}ffn/linear_1"),
    }
    if f"{ours}cross_attn_ln.weight" in tensors:
        variables |= _norm(tensors, f"{ours}cross_attn_ln", f"{theirs}attention/layer_norm")
        variables |= _stacked(tensors, f"{ours}cross_attn", "query", f"{theirs}attention/linear_0")
        variables |= _stacked(tensors, f"{ours}cross_attn", "key value", f"{theirs}attention/linear_1")
        variables |= _stacked(tensors, f"{ours}cross_attn", "out", f"{theirs}attention/linear_2")
    return variables


def container(
    variables: dict[str, Tensor],
    aliases: dict[str, str] | None = None,
    *,
    version: int = 6,
    spec: str = "WhisperSpec",
) -> bytes:
    """The bytes of `model.bin`."""
    if aliases is None:
        aliases = {"decoder/projection/weight": "decoder/embeddings/weight"}
    parts = [struct.pack("<I", version), _name(spec), struct.pack("<II", 3, len(variables))]
    for name, tensor in variables.items():
        data = tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
        shape = struct.pack(f"<B{tensor.ndim}I", tensor.ndim, *tensor.shape)
        parts += [_name(name), shape, struct.pack("<BI", CT2_TYPES[tensor.dtype], len(data)), data]
    parts.append(struct.pack("<I", len(aliases)))
    parts += [_name(name) for pair in aliases.items() for name in pair]
    return b"".join(parts)


def _name(text: str) -> bytes:
    data = text.encode() + b"\0"
    return struct.pack("<H", len(data)) + data
