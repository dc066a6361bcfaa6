"""The published network beside ours, on the same weights, and a small pair of random weights."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import torch
import whisper.model
from torch import Tensor, nn
from whisper.tokenizer import Tokenizer, get_tokenizer

from model import KVCache, ModelDimensions, Whisper
from tests.helpers.random_weights import random_tensors

SMALL = ModelDimensions(
    n_mels=5,
    n_audio_ctx=24,
    n_audio_state=16,
    n_audio_head=4,
    n_audio_layer=2,
    n_vocab=37,
    n_text_ctx=20,
    n_text_state=16,
    n_text_head=2,
    n_text_layer=3,
)
"""Different numbers everywhere, so that no two axes can be mistaken for each other."""


@dataclass(frozen=True, slots=True)
class Pair:
    """One set of weights in both implementations, float32."""

    name: str
    published: whisper.model.Whisper
    ours: Whisper

    @property
    def dims(self) -> ModelDimensions:
        """Shape of both."""
        return self.ours.dims


@dataclass(frozen=True, slots=True)
class Heard:
    """What the published implementation makes of one recording and its reference text, float32."""

    mel: Tensor
    """(1, n_mels, 2 * n_audio_ctx)"""
    features: Tensor
    """(1, n_audio_ctx, n_audio_state)"""
    tokens: Tensor
    """Start sequence, text, end: (1, n)."""
    logits: Tensor
    """(1, n, n_vocab)"""


def published_network(dims: ModelDimensions, tensors: Mapping[str, Tensor]) -> whisper.model.Whisper:
    """The published network with these weights, in inference mode."""
    network = whisper.model.Whisper(whisper.model.ModelDimensions(**asdict(dims)))
    network.load_state_dict(tensors, strict=True)
    return network.eval().requires_grad_(False)


def published_tokenizer(multilingual: bool, *, n_languages: int = 99, language: str = "en") -> Tokenizer:
    """The published tokenizer; it leaves its vocabulary file to the garbage collector, which warns."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        return get_tokenizer(multilingual, num_languages=n_languages, language=language)


def pair_of(
    name: str,
    dims: ModelDimensions,
    tensors: Mapping[str, Tensor],
    alignment_heads: Sequence[tuple[int, int]] | None = None,
) -> Pair:
    """Both implementations of the same weights."""
    ours = Whisper.from_tensors(dims, tensors, alignment_heads=alignment_heads)
    return Pair(name, published_network(dims, tensors), ours)


def small_pair() -> Pair:
    """Both implementations of a few thousand random weights."""
    return pair_of("small", SMALL, random_tensors(SMALL))


def random_tokens(dims: ModelDimensions, *shape: int, seed: int = 0) -> Tensor:
    """Tokens from the whole vocabulary, int64."""
    return torch.randint(dims.n_vocab, shape, generator=torch.Generator().manual_seed(seed))


def random_features(dims: ModelDimensions, *shape: int, seed: int = 0) -> Tensor:
    """Audio features, (*shape, n_audio_state)."""
    return torch.randn(*shape, dims.n_audio_state, generator=torch.Generator().manual_seed(seed))


def listen(model: Whisper, cache: KVCache, slot: int, features: Tensor) -> None:
    """Let `slot` hear audio features (T, n_audio_state)."""
    cache.set_audio(slot, model.decoder.audio_keys_values(features[None])[:, 0])


def append(model: Whisper, cache: KVCache, rows: Mapping[int, Sequence[int]]) -> dict[int, Tensor]:
    """Append the tokens of each slot in one pass; logits of each slot's new tokens, (n, n_vocab)."""
    counts = [len(tokens) for tokens in rows.values()]
    fed = torch.tensor([token for tokens in rows.values() for token in tokens])
    logits = model.decoder.project(model.decoder(fed, cache, cache.plan_append(list(rows), counts)).hidden)
    return dict(zip(rows, logits.split(counts), strict=True))


def published_cross_scores(network: whisper.model.Whisper, tokens: Tensor, features: Tensor) -> Tensor:
    """Scores of every cross-attention head before softmax, (n_text_layer, batch, n_text_head, n, T)."""
    scores: list[Tensor] = []

    def keep(_module: nn.Module, _inputs: tuple[Tensor, ...], outputs: tuple[Tensor, Tensor]) -> None:
        scores.append(outputs[1])

    hooks = [block.cross_attn.register_forward_hook(keep) for block in network.decoder.blocks]
    # only the path without the fused kernel has scores to show
    with whisper.model.disable_sdpa():
        network.decoder(tokens, features)
    for hook in hooks:
        hook.remove()
    return torch.stack(scores)


def largest_difference(label: str, actual: Tensor, expected: Tensor) -> float:
    """Print and return the largest absolute difference; NaN anywhere gives NaN."""
    difference = (actual.float() - expected.float()).abs()
    print(f"{label}: max {difference.max():.3g}, mean {difference.mean():.3g}")
    return float(difference.max())


def snapshot(cache: KVCache) -> tuple[list[Tensor], list[int], list[int]]:
    """Everything a cache holds, copied: tensors, lengths, audio lengths."""
    tensors = [t.clone() for t in (cache.keys, cache.values, cache.audio_keys, cache.audio_values)]
    slots = range(cache.n_slots)
    return tensors, [cache.length(slot) for slot in slots], [cache.audio_length(slot) for slot in slots]


def same_snapshots(
    one: tuple[list[Tensor], list[int], list[int]], other: tuple[list[Tensor], list[int], list[int]]
) -> bool:
    """Whether two snapshots are equal, the tensors bit for bit."""
    equal = all(torch.equal(a, b) for a, b in zip(one[0], other[0], strict=True))
    return equal and one[1:] == other[1:]
