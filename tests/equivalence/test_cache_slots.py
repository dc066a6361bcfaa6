"""Which slot a session has, who had it before, and who sits beside it make no difference."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from model import KVCache
from tests.helpers.networks import SMALL, Pair, append, listen, random_features, random_tokens, small_pair

N = SMALL.n_text_ctx


@pytest.fixture(scope="module")
def small() -> Pair:
    """A network of a few thousand random weights."""
    return small_pair()


def new_cache(pair: Pair, *, n_slots: int = 5, n_tail: int = 3, row_by_row: bool = False) -> KVCache:
    """A cache for windows of 10 positions behind a tail of silence; its rows attend together, as on a GPU."""
    tail = pair.ours.silence_tail(pair.ours.encoder.encode_silence(-0.5), n_tail)
    return KVCache(SMALL, n_slots=n_slots, audio_capacity=10, tail=tail, row_by_row=row_by_row)


def run_session(pair: Pair, cache: KVCache, slot: int, *, seed: int, n_audio: int = 6) -> Tensor:
    """One session from an empty slot: a window, a prompt in one append, then token by token; all logits."""
    cache.set_length(slot, 0)
    listen(pair.ours, cache, slot, random_features(SMALL, n_audio, seed=seed))
    tokens = random_tokens(SMALL, 9, seed=seed)
    pieces = [tokens[:5], *tokens[5:].split(1)]
    return torch.cat([append(pair.ours, cache, {slot: piece.tolist()})[slot] for piece in pieces])


def run_together(pair: Pair, slots: Sequence[int], *, row_by_row: bool = False) -> list[Tensor]:
    """Session i in `slots[i]`, all in one batch: a prompt each, then two tokens each; logits of each."""
    cache = new_cache(pair, row_by_row=row_by_row)
    texts = [random_tokens(SMALL, 3 + i, seed=i) for i in range(len(slots))]
    for i, slot in enumerate(slots):
        listen(pair.ours, cache, slot, random_features(SMALL, 2 + 2 * i, seed=i))
    prompts = append(pair.ours, cache, {slot: texts[i].tolist() for i, slot in enumerate(slots)})
    steps = append(pair.ours, cache, {slot: [i, i + 1] for i, slot in enumerate(slots)})
    return [torch.cat([prompts[slot], steps[slot]]) for slot in slots]


@settings(max_examples=25)
@given(before=st.integers(1, N), n_heard=st.integers(1, 10), n_audio=st.integers(1, 10))
def test_reused_slot_is_a_fresh_slot(small: Pair, before: int, n_heard: int, n_audio: int) -> None:
    """A session in a slot that another one has filled gives the same logits, bit for bit."""
    used = new_cache(small)
    listen(small.ours, used, 2, random_features(SMALL, n_heard, seed=7))
    append(small.ours, used, {2: random_tokens(SMALL, before, seed=7).tolist()})

    again = run_session(small, used, 2, seed=1, n_audio=n_audio)

    fresh = run_session(small, new_cache(small), 2, seed=1, n_audio=n_audio)
    assert torch.equal(again, fresh)


def test_what_the_last_session_left_is_never_heard(small: Pair) -> None:
    """Beside a row that reaches further, a reused slot's old tokens and window are among the keys, hidden."""
    used, fresh = new_cache(small), new_cache(small)
    listen(small.ours, used, 1, 1e3 * random_features(SMALL, 10, seed=7))
    append(small.ours, used, {1: random_tokens(SMALL, N, seed=7).tolist()})
    results = []
    for cache in (used, fresh):
        cache.set_length(1, 0)
        listen(small.ours, cache, 0, random_features(SMALL, 10, seed=1))
        listen(small.ours, cache, 1, random_features(SMALL, 2, seed=2))
        append(small.ours, cache, {0: random_tokens(SMALL, 15, seed=1).tolist()})
        results.append(append(small.ours, cache, {0: [1, 2], 1: [3]}))

    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])


@pytest.mark.parametrize("slot", [0, 1, 4])
def test_every_slot_is_the_same(small: Pair, slot: int) -> None:
    """A session gives the same logits in the first slot and in any other, bit for bit."""
    assert torch.equal(
        run_session(small, new_cache(small), slot, seed=1),
        run_session(small, new_cache(small, n_slots=1), 0, seed=1),
    )


@settings(max_examples=25)
@given(slots=st.permutations(range(5)).map(lambda order: order[:3]))
def test_rows_by_themselves_are_rows_together(small: Pair, slots: list[int]) -> None:
    """Whether each row attends by itself or all together, padded and masked, is invisible in the logits."""
    together, by_themselves = run_together(small, slots), run_together(small, slots, row_by_row=True)

    for one, other in zip(together, by_themselves, strict=True):
        assert_close(one, other, rtol=1e-5, atol=1e-5)


@settings(max_examples=25)
@given(slots=st.permutations(range(5)).map(lambda order: order[:3]))
def test_scattered_slots_are_consecutive_slots(small: Pair, slots: list[int]) -> None:
    """A batch gathered from any slots in any order equals the batch read as one view."""
    for scattered, consecutive in zip(run_together(small, slots), run_together(small, [0, 1, 2]), strict=True):
        assert_close(scattered, consecutive, rtol=1e-5, atol=1e-5)


def test_batched_is_alone(small: Pair) -> None:
    """Each session of a batch gives the logits it gives with the cache to itself."""
    together = run_together(small, [0, 1, 2])

    for i, logits in enumerate(together):
        cache = new_cache(small)
        listen(small.ours, cache, 0, random_features(SMALL, 2 + 2 * i, seed=i))
        prompt = append(small.ours, cache, {0: random_tokens(SMALL, 3 + i, seed=i).tolist()})[0]
        steps = append(small.ours, cache, {0: [i, i + 1]})[0]
        assert_close(logits, torch.cat([prompt, steps]), rtol=1e-4, atol=1e-5)


def test_a_session_does_not_notice_its_neighbours(small: Pair) -> None:
    """Sessions that come, go and hear anew between a session's passes leave its logits, bit for bit."""
    alone = run_session(small, new_cache(small), 2, seed=1)
    cache = new_cache(small)
    listen(small.ours, cache, 2, random_features(SMALL, 6, seed=1))
    tokens = random_tokens(SMALL, 9, seed=1)

    pieces = []
    for step, piece in enumerate([tokens[:5], *tokens[5:].split(1)]):
        run_session(small, cache, 1 + 2 * (step % 2), seed=10 + step, n_audio=1 + step)
        pieces.append(append(small.ours, cache, {2: piece.tolist()})[2])

    assert torch.equal(torch.cat(pieces), alone)
