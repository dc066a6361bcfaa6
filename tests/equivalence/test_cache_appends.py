"""However tokens reach the cache, the logits are those of the published pass over the whole text."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from model import CacheFullError, KVCache
from tests.helpers.networks import (
    SMALL,
    Pair,
    append,
    listen,
    random_features,
    random_tokens,
    same_snapshots,
    small_pair,
    snapshot,
)

N = SMALL.n_text_ctx


@pytest.fixture(scope="module")
def small() -> Pair:
    """Both implementations of a few thousand random weights."""
    return small_pair()


def cache_hearing(pair: Pair, *features: Tensor) -> KVCache:
    """A cache of one slot for each of the features, (T, n_audio_state)."""
    cache = pair.ours.new_cache(n_slots=len(features), audio_capacity=max(len(f) for f in features))
    for slot, one in enumerate(features):
        listen(pair.ours, cache, slot, one)
    return cache


def published(pair: Pair, tokens: Tensor, features: Tensor) -> Tensor:
    """Published logits of a whole text, (n, n_vocab)."""
    logits: Tensor = pair.published.decoder(tokens[None], features[None])
    return logits[0]


def close(actual: Tensor, expected: Tensor) -> None:
    """Equal up to the order in which float32 products are summed."""
    assert_close(actual, expected, rtol=1e-4, atol=1e-4)


@given(cuts=st.sets(st.integers(1, N - 1)), n_audio=st.integers(1, 12), seed=st.integers(0, 2**20))
def test_any_split_into_appends_is_the_whole(small: Pair, cuts: set[int], n_audio: int, seed: int) -> None:
    """A full context in one append, one by one, or cut anywhere gives the published logits."""
    tokens, features = random_tokens(SMALL, N, seed=seed), random_features(SMALL, n_audio, seed=seed)
    cache = cache_hearing(small, features)

    pieces = tokens.tensor_split(sorted(cuts))
    logits = torch.cat([append(small.ours, cache, {0: piece.tolist()})[0] for piece in pieces])

    close(logits, published(small, tokens, features))


@given(
    lengths=st.lists(st.integers(1, N), min_size=1, max_size=5),
    n_audio=st.lists(st.integers(1, 12), min_size=5, max_size=5),
    seed=st.integers(0, 2**20),
)
def test_ragged_rows_are_each_alone(small: Pair, lengths: list[int], n_audio: list[int], seed: int) -> None:
    """Rows with different texts that hear windows of different lengths do not influence each other."""
    texts = [random_tokens(SMALL, n, seed=seed + row) for row, n in enumerate(lengths)]
    windows = [random_features(SMALL, n, seed=seed + row) for row, n in enumerate(n_audio[: len(lengths)])]
    cache = cache_hearing(small, *windows)

    logits = append(small.ours, cache, {row: text.tolist() for row, text in enumerate(texts)})

    for row, (text, features) in enumerate(zip(texts, windows, strict=True)):
        close(logits[row], published(small, text, features))


@given(data=st.data(), seed=st.integers(0, 2**20))
def test_sessions_interleaved_in_any_way_are_each_alone(small: Pair, data: st.DataObject, seed: int) -> None:
    """Passes with any of the slots, any number of new tokens for each, in any order of rows."""
    texts = [random_tokens(SMALL, N, seed=seed + slot) for slot in range(4)]
    windows = [random_features(SMALL, 3 + slot, seed=seed + slot) for slot in range(4)]
    cache = cache_hearing(small, *windows)
    found: list[list[Tensor]] = [[], [], [], []]

    for _ in range(data.draw(st.integers(1, 8))):
        slots = data.draw(st.lists(st.sampled_from(range(4)), min_size=1, max_size=4, unique=True))
        counts = {slot: data.draw(st.integers(1, 5)) for slot in slots if cache.length(slot) <= N - 5}
        if not counts:
            continue
        rows = {slot: texts[slot][cache.length(slot) :][:count].tolist() for slot, count in counts.items()}
        for slot, logits in append(small.ours, cache, rows).items():
            found[slot].append(logits)

    for slot, pieces in enumerate(found):
        if pieces:
            n = cache.length(slot)
            close(torch.cat(pieces), published(small, texts[slot], windows[slot])[:n])


@given(first=st.integers(1, N), kept=st.integers(0, N), more=st.integers(1, N), seed=st.integers(0, 2**20))
def test_going_back_is_never_having_been_there(small: Pair, first: int, kept: int, more: int, seed: int) -> None:
    """After `set_length` forgotten tokens leave no trace: others give the published logits of the new text."""
    kept, more = min(kept, first), min(more, N - min(kept, first))
    if more == 0:
        return
    features = random_features(SMALL, 7, seed=seed)
    wrong, right = random_tokens(SMALL, first, seed=seed), random_tokens(SMALL, more, seed=seed + 1)
    cache = cache_hearing(small, features)
    append(small.ours, cache, {0: wrong.tolist()})

    cache.set_length(0, kept)
    logits = append(small.ours, cache, {0: right.tolist()})[0]

    text = torch.cat([wrong[:kept], right])
    close(logits, published(small, text, features)[kept:])


def test_a_new_window_changes_what_new_tokens_hear(small: Pair) -> None:
    """After `set_audio` and going back to the start, the logits are the published ones for the new window."""
    tokens = random_tokens(SMALL, 9)
    old, new = random_features(SMALL, 11, seed=1), random_features(SMALL, 6, seed=2)
    cache = cache_hearing(small, old)
    append(small.ours, cache, {0: tokens.tolist()})

    listen(small.ours, cache, 0, new)
    cache.set_length(0, 0)
    logits = append(small.ours, cache, {0: tokens.tolist()})[0]

    close(logits, published(small, tokens, new))


@given(held=st.integers(0, N), other=st.integers(0, N - 1), seed=st.integers(0, 2**20))
def test_overrunning_the_context_changes_nothing(small: Pair, held: int, other: int, seed: int) -> None:
    """A batch with one row too long is refused whole; then every slot goes on as if nothing had been tried."""
    features = [random_features(SMALL, n, seed=seed) for n in (4, 9)]
    texts = [random_tokens(SMALL, N, seed=seed + slot) for slot in range(2)]
    cache = cache_hearing(small, *features)
    for slot, n in ((0, other), (1, held)):
        if n:
            append(small.ours, cache, {slot: texts[slot][:n].tolist()})
    before = snapshot(cache)

    with pytest.raises(CacheFullError):
        append(small.ours, cache, {0: [1], 1: [1] * (N - held + 1)})

    assert same_snapshots(snapshot(cache), before)
    logits = append(small.ours, cache, {0: texts[0][other:].tolist()})[0]
    close(logits, published(small, texts[0], features[0])[other:])
