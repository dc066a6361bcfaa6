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

from model.append_plan import AppendPlan, Group
from model.attention import AttentionBackend, attend
from model.cache import KVCache
from model.dimensions import ModelDimensions
from model.layers import BlockedWeight, FeedForward, HalfWeight, LayerNorm, Linear, pack
from model.screening import ScreenedVocabulary, screen

__all__ = ["DecoderOutput", "TextDecoder"]


@dataclass(frozen=True, slots=True)
class DecoderOutput:
    """Result of one decoder pass."""

    hidden: Tensor
    """(n_tokens, n_text_state), row after row, after the final layer norm: input of `TextDecoder.project`."""
    queries: Tensor
    """Cross-attention queries of the alignment heads, (n_tokens, n_alignment_heads, d_head): input of `align`."""


class DecoderBlock(nn.Module):
    """Residual block: causal self-attention, cross-attention, feed-forward half."""

    def __init__(self, n_state: int, n_head: int) -> None:
        super().__init__()
        self.n_head = n_head
        self.attention: AttentionBackend = "fused"
        """Back end of both attentions of this block; layers may differ."""
        self.norm = LayerNorm(n_state)
        self.qkv = Linear(n_state, 3 * n_state)
        self.out = Linear(n_state, n_state)
        self.cross_norm = LayerNorm(n_state)
        self.cross_query = Linear(n_state, n_state)
        self.cross_out = Linear(n_state, n_state)
        self.feed_forward = FeedForward(n_state)

    def attend_to_text(self, x: Tensor, layer: int, cache: KVCache, plan: AppendPlan) -> Tensor:
        """
        Causal self-attention: append this layer's keys and values to the cache, attend, add to the residual stream.

        Args:
            x: Residual stream, (n_tokens, n_text_state).
            layer: Index of this block.
            cache: Written at the plan's positions of this layer.
            plan: Of this pass.

        Returns:
            (n_tokens, n_text_state).
        """
        qkv = self.qkv(self.norm(x)).view(len(x), 3, self.n_head, -1)
        q, k, v = qkv.unbind(1)  # each (n_tokens, n_head, d_head)
        cache.append(layer, k, v, plan)
        read = [(group, *cache.text(layer, group), group.mask) for group in plan.groups]
        attended: Tensor = self.out(_attend_in_groups(q, read, self.attention), residual=x)
        return attended

    def attend_to_audio(self, x: Tensor, layer: int, cache: KVCache, plan: AppendPlan) -> tuple[Tensor, Tensor]:
        """
        Cross-attention to the window of each row, added to the residual stream.

        Args:
            x: Residual stream, (n_tokens, n_text_state).
            layer: Index of this block.
            cache: Holds the windows' keys and values.
            plan: Of this pass.

        Returns:
            Residual stream (n_tokens, n_text_state), and the queries (n_tokens, n_head, d_head).
        """
        q = self.cross_query(self.cross_norm(x)).view(len(x), self.n_head, -1)  # (n_tokens, n_head, d_head)
        read = [(group, *cache.audio(layer, group), group.audio_mask) for group in plan.groups]
        return self.cross_out(_attend_in_groups(q, read, self.attention), residual=x), q


class TextDecoder(nn.Module):
    """
    Tokens -> hidden states -> logits.

    Args:
        dims: Shape of the network.
        alignment_heads: (layer, head) pairs whose cross-attention follows the speech.

    Raises:
        ValueError: There is no alignment head, one is named twice, or one is outside the network.
    """

    def __init__(self, dims: ModelDimensions, alignment_heads: Sequence[tuple[int, int]]) -> None:
        super().__init__()
        self.dims = dims
        self.set_alignment_heads(alignment_heads)
        n_state = dims.n_text_state
        # without initial values: drawing them on the meta device imports torch's compiler, which takes 2 s
        self.token_embedding = nn.Embedding.from_pretrained(torch.empty(dims.n_vocab, n_state), freeze=False)
        self.packed_embedding: HalfWeight | BlockedWeight | None = None
        self.screened_embedding: ScreenedVocabulary | None = None
        self.positions = nn.Parameter(torch.empty(dims.n_text_ctx, n_state))
        self.blocks = nn.ModuleList(DecoderBlock(n_state, dims.n_text_head) for _ in range(dims.n_text_layer))
        self.cross_keys_values = Linear(n_state, dims.n_text_layer * 2 * n_state)
        self.norm = LayerNorm(n_state)

    def pack_embedding(self) -> None:
        """
        Pack the projection to the vocabulary, and keep a copy for lookups; both in fp16 alone where that is exact.

        It is half of a small model: further copies are not worth their memory.
        Where it is screened, in float32 on a CPU, `project` multiplies the copy for lookups.
        """
        weight = self.token_embedding.weight
        self.screened_embedding = screen(weight)
        if self.screened_embedding is not None:
            self.token_embedding.weight = nn.Parameter(self.screened_embedding.weight, requires_grad=False)
            return
        self.packed_embedding = pack(weight, None)
        if isinstance(self.packed_embedding, HalfWeight):
            self.token_embedding.weight = nn.Parameter(weight.half(), requires_grad=False)

    def set_alignment_heads(self, alignment_heads: Sequence[tuple[int, int]]) -> None:
        """
        Choose the (layer, head) pairs whose cross-attention follows the speech. Not while queries await `align`.

        Raises:
            ValueError: There is no head, one is named twice, or one is outside the network.
        """
        dims, heads = self.dims, tuple(sorted(alignment_heads))
        if not heads or len(set(heads)) != len(heads):
            raise ValueError(f"alignment heads {list(heads)}: expected distinct (layer, head) pairs, at least one")
        for layer, head in heads:
            if not (0 <= layer < dims.n_text_layer and 0 <= head < dims.n_text_head):
                raise ValueError(
                    f"alignment head ({layer}, {head}): expected layer < {dims.n_text_layer} and head < "
                    f"{dims.n_text_head}"
                )
        self.alignment_heads = heads

    def forward(self, tokens: Tensor, cache: KVCache, plan: AppendPlan) -> DecoderOutput:
        """
        Run new tokens through the network and append them to the cache.

        Rows of any lengths share every matrix product; only attention pads them.

        Args:
            tokens: (n_tokens,), int64: the rows' new tokens, row after row. Tokens on the host are checked there and
                then moved; tokens on a device are checked there, which waits for it.
            cache: Keys and values of the rows' earlier tokens and windows; advanced by this call.
            plan: From `KVCache.plan_append`, for these rows.

        Raises:
            ValueError: `tokens` has the wrong shape or dtype, a token is outside the vocabulary, or the plan is not of
                this cache as it is now.
        """
        self._check(tokens, plan)
        cache.check_plan(plan)
        output = self.run(tokens.to(self.positions.device), cache, plan)
        cache.advance(plan.slots, plan.counts)
        return output

    def run(self, tokens: Tensor, cache: KVCache, plan: AppendPlan) -> DecoderOutput:
        """
        `forward` without its checks and without advancing the cache: nothing that needs the host.

        Args:
            tokens: (n_tokens,), int64.
            cache: Written, not advanced.
            plan: Of this pass.
        """
        x = self.token_embedding(tokens).to(self.positions) + self.positions[plan.positions]  # (n_tokens, n_text_state)
        queries = []
        for layer, block in enumerate(self.blocks):
            assert isinstance(block, DecoderBlock)
            x = block.attend_to_text(x, layer, cache, plan)
            x, q = block.attend_to_audio(x, layer, cache, plan)
            queries += [q[:, head] for head in self._heads_of(layer)]  # each (n_tokens, d_head)
            x = block.feed_forward(x)
        return DecoderOutput(self.norm(x), torch.stack(queries, dim=1))

    def align(self, queries: Tensor, cache: KVCache, slots: Sequence[int], n_positions: int) -> Tensor:
        """
        Scaled query-key scores of the alignment heads over the windows without the silence tail, before softmax.

        Args:
            queries: (n_slots, n, n_alignment_heads, d_head), from passes over the windows that the slots hold now.
            cache: Holds the keys.
            slots: The rows' slots.
            n_positions: Audio positions from the beginning of each window; beyond a window's end the scores mean
                nothing.

        Returns:
            (n_slots, n_alignment_heads, n, n_positions), float32.

        Raises:
            ValueError: `queries` has the wrong shape, or `n_positions` is not from 1 to the capacity of a window.
        """
        self._check_queries(queries, cache, slots, n_positions)
        scores = []
        heads = [self._heads_of(layer) for layer in range(self.dims.n_text_layer)]
        # parts are (n_slots, n_heads_of_layer, n, d_head)
        for layer, part in enumerate(queries.transpose(1, 2).split([len(each) for each in heads], dim=1)):
            if heads[layer]:
                keys = cache.own_audio_keys(layer, slots, n_positions)[:, heads[layer]]  # (…, n_positions, d_head)
                scores.append(part.float() @ keys.float().transpose(-1, -2))  # (…, n, n_positions)
        return torch.cat(scores, dim=1).mul(self.dims.d_head**-0.5)

    def project(self, hidden: Tensor) -> Tensor:
        """
        Hidden states (..., n_text_state) -> logits (..., n_vocab), float32.

        Raises:
            ValueError: `hidden` has another width or dtype.
        """
        self._check_states("hidden states", hidden)
        if self.packed_embedding is not None:
            return self.packed_embedding(hidden).float()
        logits: Tensor = nn.functional.linear(hidden, self.token_embedding.weight.to(hidden.dtype))
        return logits.float()

    def screen(self, hidden: Tensor) -> Tensor:
        """
        Logits for a greedy choice: as `project`, but on a CPU in float32 exact only for the tokens that may be chosen.

        Args:
            hidden: Hidden states, (..., n_text_state).

        Returns:
            (..., n_vocab), float32; see `ScreenedVocabulary`.

        Raises:
            ValueError: `hidden` has another width or dtype.
        """
        if self.screened_embedding is None:
            return self.project(hidden)
        self._check_states("hidden states", hidden)
        return self.screened_embedding(hidden)

    def audio_keys_values(self, features: Tensor) -> Tensor:
        """
        Cross-attention keys and values of audio features, for all layers at once.

        Args:
            features: (batch, n, n_audio_state).

        Returns:
            Keys and values, (2, batch, n_text_layer, n_text_head, n, d_head).

        Raises:
            ValueError: `features` has the wrong shape or dtype.
        """
        dims = self.dims
        if features.ndim != 3:
            raise ValueError(f"features {tuple(features.shape)}: expected (batch, n, n_audio_state)")
        self._check_states("features", features)
        # (batch, n, n_text_layer, 2, n_text_head, d_head)
        both = self.cross_keys_values(features).unflatten(-1, (dims.n_text_layer, 2, dims.n_text_head, dims.d_head))
        result: Tensor = both.permute(3, 0, 2, 4, 1, 5)  # (2, batch, n_text_layer, n_text_head, n, d_head)
        return result

    def _heads_of(self, layer: int) -> list[int]:
        return [head for at, head in self.alignment_heads if at == layer]

    def _check(self, tokens: Tensor, plan: AppendPlan) -> None:
        n = sum(plan.counts)
        if tokens.shape != (n,):
            raise ValueError(f"tokens have shape {tuple(tokens.shape)}, the plan of this pass needs {(n,)}")
        if tokens.dtype not in (torch.int64, torch.int32):
            raise ValueError(f"tokens have dtype {tokens.dtype}, expected torch.int64")
        lowest, highest = (int(bound) for bound in tokens.aminmax())
        if not 0 <= lowest <= highest < self.dims.n_vocab:
            raise ValueError(f"tokens from {lowest} to {highest}, expected 0 to {self.dims.n_vocab - 1}")

    def _check_states(self, name: str, states: Tensor) -> None:
        width, dtype = self.dims.n_text_state, self.positions.dtype
        if states.shape[-1:] != (width,) or states.dtype != dtype:
            raise ValueError(
                f"{name} have {tuple(states.shape)[-1:]} columns of {states.dtype}: expected {(width,)} of {dtype}"
            )

    def _check_queries(self, queries: Tensor, cache: KVCache, slots: Sequence[int], n_positions: int) -> None:
        n_heads = len(self.alignment_heads)
        shape = tuple(queries.shape)
        if queries.ndim != 4 or shape[0] != len(slots) or shape[2:] != (n_heads, self.dims.d_head):
            raise ValueError(f"queries {shape}: expected ({len(slots)}, n, {n_heads}, {self.dims.d_head})")
        if not 1 <= n_positions <= cache.audio_capacity:
            raise ValueError(f"n_positions = {n_positions}: expected 1 to {cache.audio_capacity}")


def _attend_in_groups(
    q: Tensor, read: Sequence[tuple[Group, Tensor, Tensor, Tensor | None]], backend: AttentionBackend
) -> Tensor:
    """
    One attention call per group.

    Args:
        q: Queries of the whole pass, (n_tokens, n_head, d_head).
        read: For each group its keys, values, each (n_rows, n_head, n_keys, d_head), and its mask.
        backend: Of the block.

    Returns:
        (n_tokens, n_state).
    """
    if all(group.views is not None for group, *_ in read):
        heads = q.transpose(0, 1).to(read[0][1].dtype)[None]  # (1, n_head, n_tokens, d_head)
        rows = [attend(heads[:, :, group.tokens], k, v, mask, backend=backend) for group, k, v, mask in read]
        return torch.cat(rows, dim=1)[0].to(q.dtype)
    attended = []
    for group, k, v, mask in read:
        rows = q[group.tokens].unflatten(0, (-1, group.n)).transpose(1, 2)  # (n_rows, n_head, n, d_head)
        result = attend(rows.to(k.dtype), k, v, mask, backend=backend, recurring=group.recurring)
        result = result.flatten(0, 1).to(q.dtype)  # (n_rows * n, n_state)
        attended.append(result if group.real is None else result[group.real])
    return torch.cat(attended)
