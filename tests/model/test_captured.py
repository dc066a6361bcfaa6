"""model/captured.py"""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from model import CacheFullError, CapturedDecoder, KVCache
from tests.helpers.networks import SMALL, Pair, append, listen, random_features, same_snapshots, snapshot


def cache_with(small: Pair, texts: dict[int, list[int]]) -> KVCache:
    """Five slots that have heard windows of different lengths, some of which have said something."""
    silence = small.ours.encoder.encode_silence(-0.5)
    cache = small.ours.new_cache(n_slots=5, audio_capacity=9, tail=small.ours.silence_tail(silence, 3))
    for slot in range(5):
        listen(small.ours, cache, slot, random_features(SMALL, 2 * slot + 1, seed=slot))
    append(small.ours, cache, texts)
    return cache


@pytest.mark.parametrize("slots", [[0], [0, 1, 2], [3, 1], [0, 1, 2, 3, 4]], ids=str)
def test_one_token_for_each_slot_is_the_ordinary_pass(small: Pair, slots: list[int]) -> None:
    """Logits, queries and lengths, token after token, whichever slots take part."""
    texts = {slot: list(range(1, 2 + 2 * slot)) for slot in range(5)}
    ours, plain = cache_with(small, texts), cache_with(small, texts)
    captured = CapturedDecoder(small.ours.decoder, ours)

    for token in (7, 3, 11):
        logits, queries = captured(slots, [token + slot for slot in slots])

        output = small.ours.decoder(
            torch.tensor([token + slot for slot in slots]), plain, plain.plan_append(slots, [1] * len(slots))
        )
        assert_close(logits, small.ours.decoder.project(output.hidden), rtol=1e-4, atol=1e-4)
        assert_close(queries, output.queries, rtol=1e-4, atol=1e-4)
    assert [ours.length(slot) for slot in range(5)] == [plain.length(slot) for slot in range(5)]


def test_slots_that_take_no_part_say_what_they_would_have(small: Pair) -> None:
    """A slot that was passed over goes on as if nothing had happened; a full one does no harm."""
    texts = {slot: [1] * (SMALL.n_text_ctx if slot == 2 else 4) for slot in range(3)}
    ours, plain = cache_with(small, texts), cache_with(small, texts)
    captured = CapturedDecoder(small.ours.decoder, ours)
    captured([0], [5])
    captured([0], [6])

    logits, _ = captured([1], [9])

    expected = append(small.ours, plain, {1: [9]})
    assert_close(logits, expected[1], rtol=1e-4, atol=1e-4)
    assert ours.length(2) == SMALL.n_text_ctx


def test_a_full_slot_is_refused(small: Pair) -> None:
    """Nothing is written and no length moves."""
    cache = cache_with(small, {0: [1] * SMALL.n_text_ctx, 1: [2]})
    captured = CapturedDecoder(small.ours.decoder, cache)
    before = snapshot(cache)

    with pytest.raises(CacheFullError, match="slot 0 holds 20 tokens, 1 more pass n_text_ctx = 20"):
        captured([0, 1], [3, 3])

    assert same_snapshots(snapshot(cache), before)


@pytest.mark.parametrize("tokens", [[1], [1, SMALL.n_vocab], [-1, 1]])
def test_impossible_tokens_are_refused(small: Pair, tokens: list[int]) -> None:
    """Before a graph looks them up: too few, or outside the vocabulary; nothing is appended."""
    with torch.inference_mode():
        cache = small.ours.new_cache(n_slots=2, audio_capacity=6)
        with pytest.raises(ValueError, match=rf"tokens .*: expected one from 0 to {SMALL.n_vocab - 1} for each slot"):
            CapturedDecoder(small.ours.decoder, cache)([0, 1], tokens)

    assert [cache.length(slot) for slot in (0, 1)] == [0, 0]
