"""model/decoder.py"""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from model import CacheFullError, KVCache, TextDecoder
from tests.helpers.networks import (
    SMALL,
    Heard,
    Pair,
    append,
    largest_difference,
    listen,
    published_cross_scores,
    random_features,
    random_tokens,
    same_snapshots,
    snapshot,
)

LOGIT_BOUND = 1e-3
"""
Largest float32 difference of logits and scores to the published implementation; logits reach 41 and 74.

Measured: 0 for a whole text in one pass, 9e-5 in several appends and in ragged batches, where the same
products are summed in another order. The published implementation with and without its fused attention kernel
differs from itself by 1e-4.
"""


def cache_hearing(pair: Pair, *features: Tensor) -> KVCache:
    """A cache of one slot for each of the features, (1, T, n_audio_state)."""
    cache = pair.ours.new_cache(n_slots=len(features), audio_capacity=max(f.shape[1] for f in features))
    for slot, one in enumerate(features):
        listen(pair.ours, cache, slot, one[0])
    return cache


def in_appends(pair: Pair, heard: Heard, counts: Sequence[int]) -> Tensor:
    """Logits of all tokens, appended in pieces of these lengths, (n, n_vocab)."""
    cache = cache_hearing(pair, heard.features)
    pieces = heard.tokens[0].split(list(counts))
    return torch.cat([append(pair.ours, cache, {0: piece.tolist()})[0] for piece in pieces])


def test_logits_are_the_published_ones(pair: Pair, heard: list[Heard]) -> None:
    """All tokens in one pass, float32, one recording at a time."""
    for one in heard:
        logits = in_appends(pair, one, [one.tokens.shape[1]])

        assert logits.dtype == torch.float32
        assert largest_difference(f"{pair.name} full", logits, one.logits[0]) < LOGIT_BOUND


def test_one_token_at_a_time_is_the_published_full_pass(pair: Pair, heard: list[Heard]) -> None:
    """Incremental decoding through the cache gives the logits of the published pass over the whole text."""
    logits = in_appends(pair, heard[0], [1] * heard[0].tokens.shape[1])

    assert largest_difference(f"{pair.name} incremental", logits, heard[0].logits[0]) < LOGIT_BOUND


def test_several_tokens_on_a_filled_cache(pair: Pair, heard: list[Heard]) -> None:
    """
    Appending several tokens to earlier ones is causal, and gives the logits of the published whole pass.

    The published implementation cannot do this: its causal mask starts at the first key.
    """
    n = heard[0].tokens.shape[1]

    logits = in_appends(pair, heard[0], [4, 1, n - 12, 7])

    assert largest_difference(f"{pair.name} appended", logits, heard[0].logits[0]) < LOGIT_BOUND


def test_ragged_rows_are_the_published_rows(pair: Pair, heard: list[Heard]) -> None:
    """Texts of different lengths in one pass each get the logits they get alone."""
    cache = cache_hearing(pair, *(one.features for one in heard))

    logits = append(pair.ours, cache, {slot: one.tokens[0].tolist() for slot, one in enumerate(heard)})

    for slot, one in enumerate(heard):
        assert largest_difference(f"{pair.name} row {slot}", logits[slot], one.logits[0]) < LOGIT_BOUND


def test_alignment_scores_are_the_published_ones(pair: Pair, heard: list[Heard]) -> None:
    """Scores of the alignment heads before softmax, in order of layers and heads, with tokens in two appends."""
    for one in heard[:2]:
        cache = cache_hearing(pair, one.features)
        queries = [
            pair.ours.decoder(piece, cache, cache.plan_append([0], [len(piece)])).queries
            for piece in one.tokens[0].tensor_split([3])
        ]

        every = published_cross_scores(pair.published, one.tokens, one.features)
        expected = torch.stack([every[layer, 0, head] for layer, head in pair.ours.decoder.alignment_heads])
        (found,) = pair.ours.decoder.align(torch.cat(queries)[None], cache, [0], one.features.shape[1])
        assert found.dtype == torch.float32
        # the published scores are scaled before the product, ours after it
        assert largest_difference(f"{pair.name} scores", found, expected) < LOGIT_BOUND


def test_alignment_leaves_the_tail_out(small: Pair) -> None:
    """Scores cover the session's own window: column j is its position j, whatever silence stands in front."""
    features, tokens = random_features(SMALL, 1, 6), random_tokens(SMALL, 1, 4)
    silence = small.ours.encoder.encode_silence(-0.5)
    tail = small.ours.silence_tail(silence, 5)
    cache = small.ours.new_cache(n_slots=1, audio_capacity=6, tail=tail)
    listen(small.ours, cache, 0, features[0])

    queries = small.ours.decoder(tokens[0], cache, cache.plan_append([0], [4])).queries

    everything = torch.cat([silence.features[None, -5:], features], dim=1)
    every = published_cross_scores(small.published, tokens, everything)
    heads = small.ours.decoder.alignment_heads
    expected = torch.stack([every[layer, 0, head, :, 5:] for layer, head in heads])
    (found,) = small.ours.decoder.align(queries[None], cache, [0], 6)
    assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_tail_and_window_are_heard_together(small: Pair) -> None:
    """Logits with a tail are the published logits for the silence's features followed by the window's."""
    silence = small.ours.encoder.encode_silence(-0.5)
    cache = small.ours.new_cache(n_slots=2, audio_capacity=8, tail=small.ours.silence_tail(silence, 5))
    windows = {0: random_features(SMALL, 8, seed=1), 1: random_features(SMALL, 3, seed=2)}
    tokens = random_tokens(SMALL, 2, 6)
    for slot, features in windows.items():
        listen(small.ours, cache, slot, features)

    logits = append(small.ours, cache, {slot: tokens[slot].tolist() for slot in windows})

    for slot, features in windows.items():
        heard = torch.cat([features, silence.features[-5:]])[None]
        expected = small.published.decoder(tokens[slot : slot + 1], heard)[0]
        assert_close(logits[slot], expected, rtol=1e-4, atol=1e-4)


def test_hear_gives_each_layers_published_projections(small: Pair) -> None:
    """One product for all layers equals the published key and value of each layer's cross-attention."""
    features = random_features(SMALL, 2, 7)

    keys, values = small.ours.decoder.audio_keys_values(features)

    for layer, block in enumerate(small.published.decoder.blocks):
        for found, project in ((keys, block.cross_attn.key), (values, block.cross_attn.value)):
            expected = project(features).unflatten(-1, (SMALL.n_text_head, SMALL.d_head)).transpose(1, 2)
            assert_close(found[:, layer], expected, rtol=1e-5, atol=1e-5)


def test_advances_the_cache(small: Pair) -> None:
    """After a pass each slot holds its row's tokens more."""
    cache = cache_hearing(small, random_features(SMALL, 1, 6), random_features(SMALL, 1, 6))

    append(small.ours, cache, {0: [1, 2, 3], 1: [4]})
    append(small.ours, cache, {1: [5, 6]})

    assert [cache.length(0), cache.length(1)] == [3, 3]


@pytest.mark.parametrize("token", [-1, SMALL.n_vocab])
def test_tokens_outside_the_vocabulary_are_refused(small: Pair, token: int) -> None:
    """The message names the range found and allowed, and the cache stays as it was, bit for bit."""
    cache = cache_hearing(small, random_features(SMALL, 1, 6))
    append(small.ours, cache, {0: [1, 2]})
    before = snapshot(cache)

    with pytest.raises(ValueError, match=rf"tokens from .*{token}.*, expected 0 to 36"):
        append(small.ours, cache, {0: [3, token]})

    assert same_snapshots(snapshot(cache), before)


@pytest.mark.parametrize("shape", [(4,), (6,), (1, 5), (5, 1)])
def test_tokens_must_fit_the_plan(small: Pair, shape: tuple[int, ...]) -> None:
    """Another number of tokens than planned is refused before anything is written."""
    cache = cache_hearing(small, random_features(SMALL, 1, 6), random_features(SMALL, 1, 6))
    plan = cache.plan_append([0, 1], [3, 2])
    before = snapshot(cache)

    with pytest.raises(ValueError, match=r"tokens have shape .*, the plan of this pass needs \(5,\)"):
        small.ours.decoder(torch.zeros(shape, dtype=torch.int64), cache, plan)

    assert same_snapshots(snapshot(cache), before)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bool, torch.uint8])
def test_tokens_must_be_integers(small: Pair, dtype: torch.dtype) -> None:
    """Another dtype is refused before it is looked up."""
    cache = cache_hearing(small, random_features(SMALL, 1, 6))

    with pytest.raises(ValueError, match=rf"tokens have dtype {dtype}, expected torch.int64"):
        small.ours.decoder(torch.ones(3, dtype=dtype), cache, cache.plan_append([0], [3]))


def test_tokens_are_checked_before_the_device_sees_them() -> None:
    """A network on a device without memory: the check needs the host's copy alone."""
    decoder = TextDecoder(SMALL, [(0, 0)]).to("meta")
    cache = KVCache(SMALL, n_slots=1, audio_capacity=6)

    with pytest.raises(ValueError, match="tokens from 5 to 37, expected 0 to 36"):
        decoder(torch.tensor([5, 37]), cache, cache.plan_append([0], [2]))


def test_a_plan_serves_one_pass(small: Pair) -> None:
    """A plan used twice would pass the bound: it is refused by what the slot held and holds, and changes nothing."""
    cache = cache_hearing(small, random_features(SMALL, 1, 6))
    plan = cache.plan_append([0], [12])
    tokens = random_tokens(SMALL, 12)
    small.ours.decoder(tokens, cache, plan)
    before = snapshot(cache)

    with pytest.raises(CacheFullError, match="slot 0 holds 12 tokens, 12 more pass n_text_ctx = 20"):
        small.ours.decoder(tokens, cache, plan)
    short = cache.plan_append([0], [2])
    listen(small.ours, cache, 0, random_features(SMALL, 5))
    with pytest.raises(
        ValueError, match="with 12 tokens and 6 audio positions, it holds 12 and 5 now: make a new plan"
    ):
        small.ours.decoder(tokens[:2], cache, short)

    assert cache.length(0) == 12
    assert torch.equal(cache.keys, before[0][0])


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (torch.zeros(1, 6, 15), r"features have \(15,\) columns of torch.float32: expected \(16,\) of torch.float32"),
        (torch.zeros(1, 6, 16).half(), r"features have \(16,\) columns of torch.float16: expected \(16,\)"),
        (torch.zeros(6, 16), r"features \(6, 16\): expected \(batch, n, n_audio_state\)"),
    ],
)
def test_wrong_features_are_refused(small: Pair, features: Tensor, message: str) -> None:
    """By width, dtype and axes."""
    with pytest.raises(ValueError, match=message):
        small.ours.decoder.audio_keys_values(features)


def test_wrong_hidden_states_and_queries_are_refused(small: Pair) -> None:
    """By what was found and what is expected."""
    cache = cache_hearing(small, random_features(SMALL, 1, 6))
    decoder, n_heads = small.ours.decoder, len(small.ours.decoder.alignment_heads)
    queries = torch.zeros(1, 4, n_heads, SMALL.d_head)

    with pytest.raises(ValueError, match=r"hidden states have \(8,\) columns"):
        decoder.project(torch.zeros(2, 8))
    with pytest.raises(ValueError, match=rf"queries \(1, 4, 1, 8\): expected \(1, n, {n_heads}, 8\)"):
        decoder.align(queries[:, :, :1], cache, [0], 6)
    for n_positions in (0, 7):
        with pytest.raises(ValueError, match=f"n_positions = {n_positions}: expected 1 to 6"):
            decoder.align(queries, cache, [0], n_positions)


def test_a_pass_that_fails_midway_changes_nothing_visible(small: Pair) -> None:
    """If the last layer raises, lengths and all below them are as before, and the pass can be repeated."""
    features, tokens = random_features(SMALL, 1, 6), random_tokens(SMALL, 1, 8)[0].tolist()
    cache, untouched = cache_hearing(small, features), cache_hearing(small, features)
    for one in (cache, untouched):
        append(small.ours, one, {0: tokens[:5]})
    before = cache.keys[:, 0, :, :5].clone()

    def fail(*_: object) -> None:
        raise RuntimeError("device lost")

    hook = small.ours.decoder.get_submodule("blocks.2.feed_forward").register_forward_pre_hook(fail)
    with pytest.raises(RuntimeError, match="device lost"):
        append(small.ours, cache, {0: tokens[5:]})
    hook.remove()

    assert cache.length(0) == 5
    assert torch.equal(cache.keys[:, 0, :, :5], before)
    again, expected = (
        append(small.ours, cache, {0: tokens[5:]}),
        append(small.ours, untouched, {0: tokens[5:]}),
    )
    assert torch.equal(again[0], expected[0])


@pytest.mark.parametrize("head", [(3, 0), (0, 2), (-1, 0), (0, -1)])
def test_alignment_heads_are_inside_the_network(head: tuple[int, int]) -> None:
    """A layer or head that does not exist is refused at construction."""
    with pytest.raises(ValueError, match=r"alignment head .*: expected layer < 3 and head < 2"):
        TextDecoder(SMALL, [(0, 0), head])


@pytest.mark.parametrize("heads", [[], [(0, 1), (2, 0), (0, 1)]])
def test_alignment_heads_are_some_and_distinct(small: Pair, heads: list[tuple[int, int]]) -> None:
    """Without a head there is nothing to align by; a head named twice would count twice. The old ones stay."""
    before = small.ours.decoder.alignment_heads

    with pytest.raises(ValueError, match=r"alignment heads \[.*\]: expected distinct .* at least one"):
        small.ours.set_alignment_heads(heads)
    with pytest.raises(ValueError, match="at least one"):
        TextDecoder(SMALL, heads)

    assert small.ours.decoder.alignment_heads == before


def test_alignment_heads_are_in_layer_order() -> None:
    """Scores come layer by layer, so the heads are listed so, however they were given."""
    decoder = TextDecoder(SMALL, [(2, 0), (0, 1), (2, 1), (0, 0)])

    assert decoder.alignment_heads == ((0, 0), (0, 1), (2, 0), (2, 1))


def test_logits_are_float32_for_every_dtype() -> None:
    """Projecting bfloat16 hidden states gives float32 logits."""
    decoder = TextDecoder(SMALL, [(0, 0)]).bfloat16()

    logits = decoder.project(torch.zeros(2, 3, SMALL.n_text_state, dtype=torch.bfloat16))

    assert logits.dtype == torch.float32
    assert logits.shape == (2, 3, SMALL.n_vocab)
