"""
The text decoder: tokens and cached keys in, hidden states out.

The cache is an argument, the attention of the alignment heads is an ordinary output, and the vocabulary
projection is a step of its own, so that a pass over a long prefix pays for logits only where they are read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from model.cache import KVCache, Placement
from model.dimensions import ModelDimensions
from model.layers import FeedForward, LayerNorm, Linear, PackedWeight, attend, split_heads

__all__ = ["DecoderOutput", "TextDecoder"]


@dataclass(frozen=True, slots=True)
class DecoderOutput:
    """What one decoder pass yields."""

    hidden: Tensor
    """(batch, n, n_text_state), normalised, ready for `TextDecoder.project`."""
    alignment: Tensor | None
    """
    Scaled query-key scores of the alignment heads, before softmax, over the session's own window:
    (batch, n_alignment_heads, n, n_positions), float32; positions past a row's own window mean nothing.
    """


class DecoderBlock(nn.Module):
    """Residual block: causal self-attention, cross-attention, feed-forward half."""

    def __init__(self, n_state: int, n_head: int) -> None:
        super().__init__()
        self.n_head = n_head
        self.norm = LayerNorm(n_state)
        self.qkv = Linear(n_state, 3 * n_state)
        self.out = Linear(n_state, n_state)
        self.cross_norm = LayerNorm(n_state)
        self.cross_query = Linear(n_state, n_state)
        self.cross_out = Linear(n_state, n_state)
        self.feed_forward = FeedForward(n_state)

    def attend_to_text(self, x: Tensor, layer: int, cache: KVCache, place: Placement) -> Tensor:
        """Append this layer's keys and values, attend to all of them, add to the residual stream."""
        q, k, v = (split_heads(part, self.n_head) for part in self.qkv(self.norm(x)).chunk(3, dim=-1))
        keys, values = cache.append(layer, k, v, place)
        attended: Tensor = self.out(attend(q, keys, values, place.mask), residual=x)
        return attended

    def attend_to_audio(self, x: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """Residual stream after cross-attention, and the queries (batch, n_head, n, d_head)."""
        q = split_heads(self.cross_query(self.cross_norm(x)), self.n_head)
        return self.cross_out(attend(q, keys, values, mask), residual=x), q


class TextDecoder(nn.Module):
    """
    Tokens -> hidden states -> logits.

    Args:
        dims: Shape of the network.
        alignment_heads: (layer, head) pairs whose cross-attention follows the speech.

    Raises:
        ValueError: An alignment head is outside the network.
    """

    def __init__(self, dims: ModelDimensions, alignment_heads: Sequence[tuple[int, int]]) -> None:
        super().__init__()
        for layer, head in alignment_heads:
            if not (0 <= layer < dims.n_text_layer and 0 <= head < dims.n_text_head):
                raise ValueError(
                    f"alignment head ({layer}, {head}): expected layer < {dims.n_text_layer} and head < "
                    f"{dims.n_text_head}"
                )
        self.dims, self.alignment_heads = dims, tuple(sorted(alignment_heads))
        n_state = dims.n_text_state
        self.token_embedding = nn.Embedding(dims.n_vocab, n_state)
        self.packed_embedding: PackedWeight | None = None
        self.positions = nn.Parameter(torch.empty(dims.n_text_ctx, n_state))
        self.blocks = nn.ModuleList(DecoderBlock(n_state, dims.n_text_head) for _ in range(dims.n_text_layer))
        self.cross_keys_values = Linear(n_state, dims.n_text_layer * 2 * n_state)
        self.norm = LayerNorm(n_state)

    def forward(self, tokens: Tensor, cache: KVCache, place: Placement, *, align: bool = False) -> DecoderOutput:
        """
        Append tokens to their slots and run them.

        Args:
            tokens: (batch, n), int64; row i is padded on the right past `place.counts[i]` with any valid token.
            cache: Holds what the rows have said and hear; advanced by this call.
            place: From `cache.place`, for these rows.
            align: Also return the scores of the alignment heads.

        Raises:
            ValueError: `tokens` has the wrong shape, or a token is outside the vocabulary.
        """
        self._check(tokens, place)
        x = self.token_embedding(tokens) + self.positions[place.positions]
        scores = []
        for layer, block in enumerate(self.blocks):
            assert isinstance(block, DecoderBlock)
            x = block.attend_to_text(x, layer, cache, place)
            keys, values = cache.audio(layer, place)
            x, queries = block.attend_to_audio(x, keys, values, place.audio_mask)
            if align and (heads := self._heads_of(layer)):
                scores.append(_scores(queries[:, heads], keys[:, heads, cache.n_tail :]))
            x = block.feed_forward(x)
        cache.advance(place)
        return DecoderOutput(self.norm(x), torch.cat(scores, dim=1) if scores else None)

    def project(self, hidden: Tensor) -> Tensor:
        """Hidden states (..., n_text_state) -> logits (..., n_vocab), float32."""
        if self.packed_embedding is not None:
            return self.packed_embedding(hidden).float()
        logits: Tensor = nn.functional.linear(hidden, self.token_embedding.weight)
        return logits.float()

    def hear(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """
        Cross-attention keys and values of audio features, for all layers at once.

        Args:
            features: (batch, n, n_audio_state).

        Returns:
            Keys and values, each (batch, n_text_layer, n_text_head, n, d_head).
        """
        dims = self.dims
        both = self.cross_keys_values(features).unflatten(-1, (dims.n_text_layer, 2, dims.n_text_head, dims.d_head))
        both = both.permute(3, 0, 2, 4, 1, 5)
        return both[0], both[1]

    def _heads_of(self, layer: int) -> list[int]:
        return [head for at, head in self.alignment_heads if at == layer]

    def _check(self, tokens: Tensor, place: Placement) -> None:
        expected = (len(place.slots), max(place.counts))
        if tokens.shape != expected:
            raise ValueError(f"tokens have shape {tuple(tokens.shape)}, the placement needs {expected}")
        # on another device this would wait for it; the engine's tokens come from its own argmax or are checked there
        if tokens.device.type == "cpu" and not 0 <= int(tokens.min()) <= int(tokens.max()) < self.dims.n_vocab:
            raise ValueError(
                f"tokens from {int(tokens.min())} to {int(tokens.max())}, expected 0 to {self.dims.n_vocab - 1}"
            )


def _scores(queries: Tensor, keys: Tensor) -> Tensor:
    """Scaled scores in float32, (batch, n_heads, n, n_positions)."""
    scores: Tensor = (queries @ keys.transpose(-1, -2)).float()
    return scores.mul(queries.shape[-1] ** -0.5)
