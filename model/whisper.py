"""The whole network: encoder and decoder, built from tensors under the names of the published checkpoints."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from model.alignment_heads import decode_alignment_heads
from model.attention import AttentionBackend, check_attention, default_attention, has_amx
from model.cache import KVCache
from model.decoder import DecoderBlock, TextDecoder
from model.dimensions import ModelDimensions
from model.encoder import AudioEncoder, EncoderBlock
from model.layers import Linear
from model.rounding import has_products
from model.silence import SilenceCache

__all__ = ["Whisper", "published_shapes"]

Each = Callable[[Callable[[Any], None], Iterable[Any]], Iterable[None]]
"""Calls a function with each of several things, as `map` does."""


class Whisper(nn.Module):
    """
    Audio encoder and text decoder of one size.

    Args:
        dims: Shape of the network.
        alignment_heads: (layer, head) pairs whose cross-attention follows the speech; by default every head of
            the later half of the decoder, as the published implementation assumes for unknown models.
    """

    def __init__(self, dims: ModelDimensions, alignment_heads: Sequence[tuple[int, int]] | None = None) -> None:
        super().__init__()
        self.dims = dims
        if alignment_heads is None:
            later = range(dims.n_text_layer // 2, dims.n_text_layer)
            alignment_heads = [(layer, head) for layer in later for head in range(dims.n_text_head)]
        self.encoder = AudioEncoder(dims)
        self.decoder = TextDecoder(dims, alignment_heads)
        self._silences: dict[tuple[float, int], SilenceCache] = {}

    @classmethod
    def from_tensors(
        cls,
        dims: ModelDimensions,
        tensors: Mapping[str, Tensor],
        *,
        alignment_heads: Sequence[tuple[int, int]] | None = None,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
        attention: AttentionBackend | None = None,
        rounds_encoder: bool = False,
        each: Each = map,
    ) -> Whisper:
        """
        Build the network in inference mode.

        Args:
            dims: Shape of the network.
            tensors: Every name of `published_shapes(dims)` with the shape of that name, in any floating dtype.
            alignment_heads: As for the constructor.
            dtype: Of weights and activations.
            device: Where the weights go.
            attention: Back end of every layer's attention; None: the fastest for device and dtype.
            rounds_encoder: Multiply in 8 bits in the blocks of the encoder, where `has_products`; elsewhere without
                effect.
            each: Packs the weights: `map`, or that of several threads.

        Raises:
            ValueError: A tensor is missing or has the wrong shape, or the device has no such attention back end.
        """
        for name, shape in published_shapes(dims).items():
            if name not in tensors:
                raise ValueError(f"{name} is missing")
            if tuple(tensors[name].shape) != shape:
                raise ValueError(f"{name} has shape {tuple(tensors[name].shape)}, dimensions say {shape}")
        with torch.device("meta"):
            model = cls(dims, alignment_heads)
        state = {name: tensor.to(device, dtype) for name, tensor in _fused(dims, tensors).items()}
        model.load_state_dict(state, strict=True, assign=True)
        model.eval().requires_grad_(False)
        model._pack(each, rounds_encoder=rounds_encoder and has_products(model.device, model.dtype))
        model.set_attention(
            encoder=attention or default_attention(model.device, model.dtype),
            decoder=attention or default_attention(model.device, model._cache_dtype()),
        )
        return model

    def _pack(self, each: Each, *, rounds_encoder: bool) -> None:
        """Replace every weight by its fastest layout; packed weights are no longer in `state_dict`."""
        rounded = set(_linear_layers(self.encoder.blocks)) if rounds_encoder else set()
        packings: list[Callable[[], None]] = [self.decoder.pack_embedding]  # the longest one first
        packings += [layer.round_off for layer in rounded]
        packings += [layer.pack for layer in _linear_layers(self) if layer not in rounded]
        for _ in each(lambda pack: pack(), packings):
            pass

    def set_attention(self, *, encoder: AttentionBackend, decoder: AttentionBackend) -> None:
        """
        Choose the attention back end of every layer of encoder and decoder.

        Of a single layer it is the attribute `attention` of its block. Cached windows and silence stay valid: the back
        ends differ by rounding only.

        Raises:
            ValueError: The device has no such attention back end.
        """
        for part, backend in ((self.encoder, encoder), (self.decoder, decoder)):
            checked = check_attention(backend, self.device)
            for block in part.blocks:
                assert isinstance(block, EncoderBlock | DecoderBlock)
                block.attention = checked

    @property
    def dtype(self) -> torch.dtype:
        """Of weights and activations."""
        return self.decoder.positions.dtype

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return self.decoder.positions.device

    @property
    def is_multilingual(self) -> bool:
        """Whether the network knows more languages than English."""
        return self.dims.is_multilingual

    def set_alignment_heads(self, heads: bytes | Sequence[tuple[int, int]]) -> None:
        """
        Choose the cross-attention heads that follow the speech.

        Args:
            heads: (layer, head) pairs, or their published encoding: see `decode_alignment_heads`.

        Raises:
            ValueError: There is no head, one is named twice, one is outside the network, or the encoding is damaged.
        """
        if isinstance(heads, bytes):
            heads = decode_alignment_heads(heads, self.dims.n_text_layer, self.dims.n_text_head)
        self.decoder.set_alignment_heads(heads)

    def embed_audio(self, mel: Tensor) -> Tensor:
        """Full windows (batch, n_mels, 2 * n_audio_ctx) -> audio features (batch, n_audio_ctx, n_audio_state)."""
        features: Tensor = self.encoder(mel.to(self.device, self.dtype))
        return features

    def silence(self, mel_value: float, stride: int) -> SilenceCache:
        """
        `AudioEncoder.encode_silence`, encoded once for all engines on these weights.

        Args:
            mel_value: Value of every mel entry.
            stride: Positions that one kept key represents, 1 to n_audio_ctx.

        Raises:
            ValueError: `stride` is out of range.
        """
        key = (mel_value, stride)
        if key not in self._silences:
            with torch.inference_mode():
                self._silences[key] = self.encoder.encode_silence(mel_value, stride=stride)
        return self._silences[key]

    def silence_tail(self, silence: SilenceCache, n_tail: int) -> Tensor:
        """
        Cross-attention keys and values of the last positions of cached silence: the `tail` of `KVCache`.

        Args:
            silence: Of this model's encoder.
            n_tail: Positions, 1 to n_audio_ctx.

        Returns:
            (2, n_text_layer, n_text_head, n_tail, d_head).

        Raises:
            ValueError: `n_tail` is not from 1 to n_audio_ctx.
        """
        if not 1 <= n_tail <= self.dims.n_audio_ctx:
            raise ValueError(f"n_tail = {n_tail}: expected 1 to {self.dims.n_audio_ctx}")
        return self.decoder.audio_keys_values(silence.features[None, -n_tail:])[:, 0]

    def new_cache(self, *, n_slots: int, audio_capacity: int | None = None, tail: Tensor | None = None) -> KVCache:
        """
        An empty KV cache on this model's device.

        On a CPU each row attends in a call of its own: attention is bound by memory bandwidth there, and padding costs
        as much as real keys. Without matrix tiles (AMX) the cache is float32: attention of a single query takes 70 us
        over 768 float32 keys and 490 us over as many bfloat16 keys; with AMX 105 us and 58 us.

        Args:
            n_slots: Rows that the cache holds at once.
            audio_capacity: Audio positions of a row's window, 1 to n_audio_ctx; None: a full window.
            tail: From `silence_tail`, (2, n_text_layer, n_text_head, n_tail, d_head); None for full windows.
        """
        on_cpu = self.device.type == "cpu"
        return KVCache(
            self.dims,
            n_slots=n_slots,
            audio_capacity=self.dims.n_audio_ctx if audio_capacity is None else audio_capacity,
            tail=tail,
            dtype=self._cache_dtype(),
            device=self.device,
            row_by_row=on_cpu,
        )

    def _cache_dtype(self) -> torch.dtype:
        return torch.float32 if self.device.type == "cpu" and not has_amx() else self.dtype

    def logits(self, tokens: Tensor, features: Tensor) -> Tensor:
        """
        Logits of every position, with a temporary KV cache.

        Args:
            tokens: (batch, n), int64, 1 <= n <= n_text_ctx.
            features: Audio features, (batch, T, n_audio_state), 1 <= T <= n_audio_ctx, in the network's dtype.

        Returns:
            (batch, n, n_vocab), float32.

        Raises:
            ValueError: `tokens` or `features` have the wrong shape or dtype, or a token is outside the vocabulary.
        """
        if tokens.ndim != 2 or features.ndim != 3 or tokens.shape[0] != features.shape[0]:
            raise ValueError(
                f"tokens {tuple(tokens.shape)} and features {tuple(features.shape)}: expected (batch, n) and "
                "(batch, T, n_audio_state) of one batch"
            )
        if not 1 <= tokens.shape[1] <= self.dims.n_text_ctx or not tokens.shape[0]:
            raise ValueError(
                f"{tokens.shape[1]} tokens for {tokens.shape[0]} rows: expected at least one row, and 1 to "
                f"n_text_ctx = {self.dims.n_text_ctx} tokens"
            )
        batch, n = tokens.shape
        cache = self.new_cache(n_slots=batch, audio_capacity=features.shape[1])
        # (2, batch, n_text_layer, n_text_head, T, d_head)
        keys_values = self.decoder.audio_keys_values(features.to(self.device))
        for slot in range(batch):
            cache.set_audio(slot, keys_values[:, slot])
        output = self.decoder(tokens.flatten(), cache, cache.plan_append(range(batch), [n] * batch))
        logits: Tensor = self.decoder.project(output.hidden).unflatten(0, (batch, n))
        return logits

    def forward(self, mel: Tensor, tokens: Tensor) -> Tensor:
        """Full windows (batch, n_mels, 2 * n_audio_ctx) and tokens (batch, n) -> logits (batch, n, n_vocab)."""
        return self.logits(tokens, self.embed_audio(mel))


def _linear_layers(part: nn.Module) -> list[Linear]:
    return [module for module in part.modules() if isinstance(module, Linear)]


def published_shapes(dims: ModelDimensions) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor of a published checkpoint of these dimensions."""
    a, t = dims.n_audio_state, dims.n_text_state
    shapes: dict[str, tuple[int, ...]] = {
        "encoder.conv1.weight": (a, dims.n_mels, 3),
        "encoder.conv1.bias": (a,),
        "encoder.conv2.weight": (a, a, 3),
        "encoder.conv2.bias": (a,),
        "encoder.positional_embedding": (dims.n_audio_ctx, a),
        "encoder.ln_post.weight": (a,),
        "encoder.ln_post.bias": (a,),
        "decoder.token_embedding.weight": (dims.n_vocab, t),
        "decoder.positional_embedding": (dims.n_text_ctx, t),
        "decoder.ln.weight": (t,),
        "decoder.ln.bias": (t,),
    }
    for layer in range(dims.n_audio_layer):
        shapes |= _block_shapes(f"encoder.blocks.{layer}", a, ("attn",))
    for layer in range(dims.n_text_layer):
        shapes |= _block_shapes(f"decoder.blocks.{layer}", t, ("attn", "cross_attn"))
    return shapes


def _block_shapes(block: str, n: int, attentions: tuple[str, ...]) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {
        f"{block}.mlp.0.weight": (4 * n, n),
        f"{block}.mlp.0.bias": (4 * n,),
        f"{block}.mlp.2.weight": (n, 4 * n),
        f"{block}.mlp.2.bias": (n,),
        f"{block}.mlp_ln.weight": (n,),
        f"{block}.mlp_ln.bias": (n,),
    }
    for attention in attentions:
        for part in ("query", "key", "value", "out"):
            shapes[f"{block}.{attention}.{part}.weight"] = (n, n)
            if part != "key":  # the published keys have no bias
                shapes[f"{block}.{attention}.{part}.bias"] = (n,)
        shapes |= {f"{block}.{attention}_ln.weight": (n,), f"{block}.{attention}_ln.bias": (n,)}
    return shapes


_RENAMED = {
    "attn.out": "out",
    "attn_ln": "norm",
    "cross_attn.query": "cross_query",
    "cross_attn.out": "cross_out",
    "cross_attn_ln": "cross_norm",
    "mlp_ln": "feed_forward.norm",
    "mlp.0": "feed_forward.widen",
    "mlp.2": "feed_forward.narrow",
}


def _fused(dims: ModelDimensions, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Published names -> this network's: query, key and value of one attention become one product."""
    state = {
        "encoder.positions": tensors["encoder.positional_embedding"],
        "decoder.positions": tensors["decoder.positional_embedding"],
        "decoder.token_embedding.weight": tensors["decoder.token_embedding.weight"],
    }
    for kind in ("weight", "bias"):
        for conv in ("encoder.conv1", "encoder.conv2"):
            # (n_out, n_in, 3) -> (n_out, 3 * n_in), frame by frame; a bias stays as it is
            tensor = tensors[f"{conv}.{kind}"]
            state[f"{conv}.{kind}"] = tensor.transpose(1, 2).flatten(1) if kind == "weight" else tensor
        state[f"encoder.norm.{kind}"] = tensors[f"encoder.ln_post.{kind}"]
        state[f"decoder.norm.{kind}"] = tensors[f"decoder.ln.{kind}"]
        cross = [
            _stacked(tensors, f"decoder.blocks.{layer}.cross_attn", ("key", "value"), kind)
            for layer in range(dims.n_text_layer)
        ]
        state[f"decoder.cross_keys_values.{kind}"] = torch.cat(cross)
        for side, n_layer in (("encoder", dims.n_audio_layer), ("decoder", dims.n_text_layer)):
            for layer in range(n_layer):
                state |= _fused_block(tensors, f"{side}.blocks.{layer}", kind)
    return state


def _fused_block(tensors: Mapping[str, Tensor], block: str, kind: str) -> dict[str, Tensor]:
    state = {f"{block}.qkv.{kind}": _stacked(tensors, f"{block}.attn", ("query", "key", "value"), kind)}
    for old, new in _RENAMED.items():
        if f"{block}.{old}.{kind}" in tensors:
            state[f"{block}.{new}.{kind}"] = tensors[f"{block}.{old}.{kind}"]
    return state


def _stacked(tensors: Mapping[str, Tensor], attention: str, parts: Sequence[str], kind: str) -> Tensor:
    """Weights or biases of several projections stacked along the output axis; a missing bias is zero."""
    zero = torch.zeros_like(tensors[f"{attention}.query.bias"])
    return torch.cat([tensors.get(f"{attention}.{part}.{kind}", zero) for part in parts])
