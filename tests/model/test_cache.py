"""model/cache.py"""

from __future__ import annotations

from collections.abc import Callable

import psutil
import pytest
import torch
from torch import Tensor

from model import AppendPlan, CacheFullError, KVCache
from tests.helpers.networks import SMALL, same_snapshots, snapshot

HEADS, WIDTH = SMALL.n_text_head, SMALL.d_head
INF = float("-inf")


def new_cache(*, n_slots: int = 3, audio_capacity: int = 6, n_tail: int = 0, row_by_row: bool = False) -> KVCache:
    """A cache of the small network; its tail holds the numbers 1 (keys) and 2 (values)."""
    tail = None
    if n_tail:
        ones = torch.ones(SMALL.n_text_layer, HEADS, n_tail, WIDTH)
        tail = torch.stack([ones, 2 * ones])
    return KVCache(SMALL, n_slots=n_slots, audio_capacity=audio_capacity, tail=tail, row_by_row=row_by_row)


def window(n: int, *, seed: int = 0) -> Tensor:
    """Cross-attention keys and values of `n` audio positions."""
    shape = (2, SMALL.n_text_layer, HEADS, n, WIDTH)
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def write(cache: KVCache, plan: AppendPlan, *, seed: int = 0) -> list[tuple[Tensor, Tensor]]:
    """Append random keys and values to every layer and advance; what the first group of each layer attends to."""
    shape = (SMALL.n_text_layer, 2, sum(plan.counts), HEADS, WIDTH)
    new = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    for layer, (k, v) in enumerate(new):
        cache.append(layer, k, v, plan)
    cache.advance(plan.slots, plan.counts)
    return [tuple(map(torch.clone, cache.text(layer, plan.groups[0]))) for layer in range(SMALL.n_text_layer)]


def fill(cache: KVCache, slot: int, n: int, *, seed: int = 0) -> None:
    """Append `n` random tokens to `slot`."""
    write(cache, cache.plan_append([slot], [n]), seed=seed)


def test_needs_at_least_one_slot() -> None:
    """A cache without slots is refused."""
    with pytest.raises(ValueError, match="n_slots = 0: expected at least 1"):
        new_cache(n_slots=0)


@pytest.mark.parametrize("audio_capacity", [-1, 0, SMALL.n_audio_ctx + 1])
def test_audio_capacity_is_within_a_window(audio_capacity: int) -> None:
    """A slot hears between one position and a full window."""
    with pytest.raises(ValueError, match=rf"audio_capacity = {audio_capacity}: expected 1 to 24"):
        new_cache(audio_capacity=audio_capacity)


def test_a_tail_has_the_shape_of_the_network() -> None:
    """One head would be broadcast to all of them in silence."""
    with pytest.raises(ValueError, match=r"keys and values \(2, 3, 1, 4, 8\): expected \(2, 3, 2, 'n', 8\)"):
        KVCache(SMALL, n_slots=1, audio_capacity=6, tail=torch.zeros(2, 3, 1, 4, 8))


@pytest.mark.parametrize("slot", [-1, 3])
def test_slots_that_do_not_exist_are_refused(slot: int) -> None:
    """By number, in every call that names one; a negative one does not count from the end."""
    cache = new_cache()

    calls: list[Callable[[], object]] = [
        lambda: cache.length(slot),
        lambda: cache.audio_length(slot),
        lambda: cache.set_length(slot, 0),
        lambda: cache.set_audio(slot, window(2)),
        lambda: cache.set_text(slot, window(2)),
        lambda: cache.text_of(slot, 0, torch.float32),
    ]
    for call in calls:
        with pytest.raises(ValueError, match=f"slot {slot}: expected 0 to 2"):
            call()


def test_keys_of_another_plan_are_refused() -> None:
    """One token's keys would be broadcast to all tokens of the plan."""
    cache = new_cache()
    plan = cache.plan_append([0], [4])

    with pytest.raises(ValueError, match=r"keys \(1, 2, 8\) and values \(1, 2, 8\): expected \(4, 2, 8\)"):
        cache.append(0, torch.zeros(1, HEADS, WIDTH), torch.zeros(1, HEADS, WIDTH), plan)


def test_starts_empty() -> None:
    """New slots hold no tokens and hear nothing."""
    cache = new_cache()

    assert [cache.length(slot) for slot in range(3)] == [0, 0, 0]
    assert [cache.audio_length(slot) for slot in range(3)] == [0, 0, 0]


def test_n_bytes_is_what_is_allocated() -> None:
    """Layers x heads x width x keys and values x 4 bytes a position: of tokens, of audio and of the tail."""
    cache = new_cache(n_slots=3, audio_capacity=6, n_tail=4)
    position = SMALL.n_text_layer * HEADS * WIDTH * 2 * 4

    assert cache.n_bytes() == (3 * SMALL.n_text_ctx * position, (3 * (4 + 6) + 4) * position)


def test_slots_that_nobody_fills_take_no_memory() -> None:
    """A hundred megabytes of them are not there until rows are written."""
    before = psutil.Process().memory_info().rss
    cache = KVCache(SMALL, n_slots=12_000, audio_capacity=24)

    assert sum(cache.n_bytes()) > 10**8
    assert psutil.Process().memory_info().rss - before < 10**7


def test_released_slots_are_empty_and_take_no_memory() -> None:
    """And they hear the silence behind the next window as before."""
    cache = KVCache(SMALL, n_slots=12_000, audio_capacity=24)
    cache.keys.fill_(1.0)
    before = psutil.Process().memory_info().rss

    cache.release()

    assert before - psutil.Process().memory_info().rss > cache.keys.nbytes * 0.9
    assert not cache.keys[:, :10].any()

    small = new_cache(n_tail=4)
    small.set_audio(1, window(3))
    kept = small.audio(0, small.plan_append([1], [2]).groups[0])[0].clone()
    small.release()
    assert (small.length(1), small.audio_length(1)) == (0, 0)
    small.set_audio(1, window(3))
    assert torch.equal(small.audio(0, small.plan_append([1], [2]).groups[0])[0], kept)


@pytest.mark.parametrize(
    ("slots", "counts", "message"),
    [
        ([1, 1], [1, 1], r"slots \[1, 1\]: expected distinct numbers from 0 to 2"),
        ([0, 3], [1, 1], r"slots \[0, 3\]: expected distinct numbers from 0 to 2"),
        ([-1], [1], r"slots \[-1\]: expected distinct numbers from 0 to 2"),
        ([0, 1], [1, 0], r"counts \[1, 0\]: expected at least one new token for each row"),
        ([0, 1], [1], "2 slots and 1 counts: expected as many, at least one"),
        ([], [], "0 slots and 0 counts: expected as many, at least one"),
    ],
)
def test_plan_append_refuses_impossible_rows(slots: list[int], counts: list[int], message: str) -> None:
    """Duplicates, unknown slots, empty rows and unequal lists are refused by name."""
    with pytest.raises(ValueError, match=message):
        new_cache().plan_append(slots, counts)


def test_a_slot_hears_the_window_of_another_one() -> None:
    """The copy is all of it, with the silence behind it, and stays when the first one hears something else."""
    cache = new_cache(n_tail=2)
    cache.set_audio(0, window(4))
    cache.copy_audio(0, 2)
    cache.set_audio(0, window(3, seed=1))
    heard = torch.stack([cache.audio_keys[:, 2], cache.audio_values[:, 2]])  # (2, n_text_layer, heads, n, width)
    assert cache.audio_length(2) == 4
    assert torch.equal(heard[:, :, :, 2:6], window(4))
    assert bool((heard[0, :, :, :2] == 1).all())
    with pytest.raises(ValueError, match="slot 3"):
        cache.copy_audio(0, 3)


def test_plan_append_writes_nothing() -> None:
    """Planning an append changes neither tensors nor lengths."""
    cache = new_cache()
    fill(cache, 0, 5)
    before = snapshot(cache)

    cache.plan_append([0, 2], [3, 1])

    assert same_snapshots(snapshot(cache), before)


def test_plan_append_hides_the_future_and_other_rows_excess() -> None:
    """Row 0 appends one token to three, row 1 two to one: each new token sees itself and what came before."""
    cache = new_cache()
    fill(cache, 0, 3)
    fill(cache, 2, 1)

    plan = cache.plan_append([0, 2], [1, 2])

    (group,) = plan.groups
    assert group.n_keys == 4
    assert [plan.written.tolist(), plan.positions.tolist()] == [[0, 2, 2], [3, 1, 2]]
    assert isinstance(group.tokens, Tensor)
    assert group.real is not None
    assert (group.tokens.tolist(), group.real.tolist()) == ([0, 0, 1, 2], [0, 2, 3])
    assert group.mask is not None
    expected = [[[0, 0, 0, 0], [0, 0, 0, 0]], [[0, 0, INF, INF], [0, 0, 0, INF]]]
    assert group.mask.tolist() == [[row] for row in expected]


def test_rows_by_themselves_are_neither_padded_nor_gathered() -> None:
    """Each row is a group of its own: its tokens, its keys, its window; a mask only where it has a future to hide."""
    cache = new_cache(n_tail=2, row_by_row=True)
    fill(cache, 0, 3)
    fill(cache, 2, 1)
    cache.set_audio(0, window(3))

    first, second = cache.plan_append([0, 2], [1, 2]).groups

    assert [(group.tokens, group.real, group.n, group.n_keys) for group in (first, second)] == [
        (slice(0, 1), None, 1, 4),
        (slice(1, 3), None, 2, 3),
    ]
    assert [group.n_audio_keys for group in (first, second)] == [5, 2]
    assert (first.mask, first.audio_mask, second.audio_mask) == (None, None, None)
    assert second.mask is not None
    assert second.mask.tolist() == [[[[0, 0, INF], [0, 0, 0]]]]
    for group, slot in ((first, 0), (second, 2)):
        keys, _ = cache.audio(1, group)
        assert keys.data_ptr() == cache.audio_keys[1, slot].data_ptr()


def test_plan_append_hides_audio_past_each_rows_window() -> None:
    """Rows hear the tail and their own window; the shorter row does not hear the rest of the longer."""
    cache = new_cache(n_tail=2)
    cache.set_audio(0, window(3))
    cache.set_audio(1, window(1))

    (group,) = cache.plan_append([0, 1], [1, 1]).groups

    assert group.n_audio_keys == 5
    assert group.audio_mask is not None
    assert group.audio_mask[:, 0, 0].tolist() == [[0, 0, 0, 0, 0], [0, 0, 0, INF, INF]]


def test_text_is_what_was_written_and_what_was_there() -> None:
    """The keys to attend to are the earlier ones followed by the new ones, row by row."""
    cache = new_cache()
    first = write(cache, cache.plan_append([2], [3]), seed=1)
    second = write(cache, cache.plan_append([2], [2]), seed=2)

    for (old_keys, old_values), (keys, values) in zip(first, second, strict=True):
        assert torch.equal(keys[:, :, :3], old_keys)
        assert torch.equal(values[:, :, :3], old_values)
        assert keys.shape == values.shape == (1, HEADS, 5, WIDTH)


def test_append_leaves_other_slots_alone() -> None:
    """Slots that are no row of the pass stay bit for bit, also between the rows."""
    cache = new_cache()
    fill(cache, 1, 4)
    keys, values = cache.keys[:, 1].clone(), cache.values[:, 1].clone()

    write(cache, cache.plan_append([0, 2], [3, 1]))

    assert torch.equal(cache.keys[:, 1], keys)
    assert torch.equal(cache.values[:, 1], values)


def test_padding_is_never_written() -> None:
    """The positions behind a short row's tokens stay empty, although its attention carried padding for them."""
    cache = new_cache()

    write(cache, cache.plan_append([0, 1], [4, 1]))

    assert torch.count_nonzero(cache.keys[:, 1, :, 1:]) == 0
    assert torch.count_nonzero(cache.values[:, 1, :, 1:]) == 0


def test_lengths_move_only_on_advance() -> None:
    """Between append and advance nothing new is visible."""
    cache = new_cache()
    plan = cache.plan_append([0, 1], [2, 1])
    new = torch.ones(3, HEADS, WIDTH)

    cache.append(0, new, new, plan)
    before = [cache.length(0), cache.length(1)]
    cache.advance(plan.slots, plan.counts)

    assert before == [0, 0]
    assert [cache.length(0), cache.length(1)] == [2, 1]


def test_slot_can_be_filled_to_the_last_position() -> None:
    """n_text_ctx tokens fit, in any appends."""
    cache = new_cache()
    fill(cache, 0, SMALL.n_text_ctx - 1)
    fill(cache, 0, 1)

    assert cache.length(0) == SMALL.n_text_ctx


@pytest.mark.parametrize(("held", "more"), [(20, 1), (19, 2), (0, 21)])
def test_append_past_the_context_is_refused(held: int, more: int) -> None:
    """One token too many raises and leaves the whole cache as it was, bit for bit."""
    cache = new_cache()
    cache.set_audio(0, window(6))
    if held:
        fill(cache, 0, held)
    before = snapshot(cache)

    with pytest.raises(CacheFullError, match=rf"slot 0 holds {held} tokens, {more} more pass n_text_ctx = 20"):
        cache.plan_append([0], [more])

    assert same_snapshots(snapshot(cache), before)


def test_one_full_row_refuses_the_batch() -> None:
    """With the full slot in the middle of a batch, no row is written, and the others can go on without it."""
    cache = new_cache()
    fill(cache, 0, 2)
    fill(cache, 1, SMALL.n_text_ctx)
    before = snapshot(cache)

    with pytest.raises(CacheFullError, match="slot 1 holds 20 tokens"):
        cache.plan_append([0, 1, 2], [1, 1, 1])

    assert same_snapshots(snapshot(cache), before)
    write(cache, cache.plan_append([0, 2], [1, 1]))
    assert [cache.length(slot) for slot in range(3)] == [3, SMALL.n_text_ctx, 1]


def test_full_is_a_value_error() -> None:
    """Whoever catches ValueError catches a full cache too."""
    assert issubclass(CacheFullError, ValueError)


@pytest.mark.parametrize("length", [0, 3, 5])
def test_set_length_forgets_from_there_on(length: int) -> None:
    """What is left stays bit for bit, and the next append lands behind it."""
    cache = new_cache()
    fill(cache, 0, 5, seed=1)
    kept = cache.keys[:, 0, :, :length].clone()

    cache.set_length(0, length)
    plan = cache.plan_append([0], [1])

    assert cache.length(0) == length
    assert torch.equal(cache.keys[:, 0, :, :length], kept)
    assert plan.positions.tolist() == [length]


@pytest.mark.parametrize("length", [-1, 6])
def test_set_length_cannot_bring_tokens_back(length: int) -> None:
    """Only what the slot holds can be kept."""
    cache = new_cache()
    fill(cache, 0, 5)
    cache.set_length(0, 5)

    with pytest.raises(ValueError, match=rf"length {length} for slot 0: expected 0 to 5"):
        cache.set_length(0, length)


def test_set_length_leaves_other_slots_alone() -> None:
    """Emptying one slot does not touch its neighbours."""
    cache = new_cache()
    for slot in range(3):
        fill(cache, slot, 4)

    cache.set_length(1, 0)

    assert [cache.length(slot) for slot in range(3)] == [4, 0, 4]


def test_set_audio_replaces_the_window_and_keeps_the_tokens() -> None:
    """A new window is heard behind the tail; tokens are the caller's decision."""
    cache = new_cache(n_tail=2)
    fill(cache, 1, 4)
    cache.set_audio(1, window(6, seed=1))
    keys, values = window(3, seed=2)

    cache.set_audio(1, torch.stack([keys, values]))

    heard_keys, heard_values = cache.audio(0, cache.plan_append([1], [1]).groups[0])
    assert (cache.audio_length(1), cache.length(1)) == (3, 4)
    assert torch.equal(heard_keys[0, :, 2:], keys[0])
    assert torch.equal(heard_values[0, :, 2:], values[0])


def test_every_slot_hears_the_tail() -> None:
    """The shared silence stands in front of every slot's window, and survives new windows."""
    cache = new_cache(n_tail=2)
    for slot in range(3):
        cache.set_audio(slot, window(slot + 1))

    keys, values = cache.audio(1, cache.plan_append([0, 1, 2], [1, 1, 1]).groups[0])

    assert torch.equal(keys[:, :, :2], torch.ones(3, HEADS, 2, WIDTH))
    assert torch.equal(values[:, :, :2], torch.full((3, HEADS, 2, WIDTH), 2.0))


def test_text_of_one_slot_can_stand_in_another() -> None:
    """What a slot has said is copied, also its beginning alone; the copy outlives the slot."""
    cache = new_cache()
    fill(cache, 0, 5)
    text = cache.text_of(0, 5, torch.float32)
    fill(cache, 1, 7, seed=1)
    cache.set_length(0, 0)

    cache.set_text(1, text[:, :, :, :3])

    assert (cache.length(0), cache.length(1)) == (0, 3)
    assert torch.equal(cache.text_of(1, 3, torch.float32), text[:, :, :, :3])


@pytest.mark.parametrize("n", [-1, 4])
def test_only_text_that_was_said_can_be_copied(n: int) -> None:
    """The message says how much there is."""
    cache = new_cache()
    fill(cache, 0, 3)

    with pytest.raises(ValueError, match=f"{n} tokens of slot 0: expected 0 to 3"):
        cache.text_of(0, n, torch.float32)


def test_text_past_the_context_is_refused() -> None:
    """One token too many raises and leaves the cache as it was, bit for bit."""
    cache = new_cache()
    fill(cache, 0, 2)
    before = snapshot(cache)
    longest = torch.ones(2, SMALL.n_text_layer, HEADS, SMALL.n_text_ctx + 1, WIDTH)

    with pytest.raises(CacheFullError, match="21 tokens: a slot holds at most n_text_ctx = 20"):
        cache.set_text(0, longest)

    assert same_snapshots(snapshot(cache), before)


def test_own_audio_keys_leave_the_tail_out() -> None:
    """They are the keys of the sessions' own windows, as far as is asked for."""
    cache = new_cache(n_tail=2)
    windows = {slot: window(3, seed=slot) for slot in (0, 1, 2)}
    for slot, heard in windows.items():
        cache.set_audio(slot, heard)

    for slots in ([1], [0, 1], [2, 0]):
        for layer in range(SMALL.n_text_layer):
            expected = torch.stack([windows[slot][0][layer, :, :2] for slot in slots])
            assert torch.equal(cache.own_audio_keys(layer, slots, 2), expected)


def test_hearing_more_than_the_capacity_is_refused() -> None:
    """A window one position too long raises and leaves the cache as it was, bit for bit."""
    cache = new_cache(audio_capacity=6, n_tail=2)
    cache.set_audio(0, window(6))
    before = snapshot(cache)

    with pytest.raises(CacheFullError, match="window of 7 audio positions: a slot holds at most 6"):
        cache.set_audio(0, window(7, seed=1))

    assert same_snapshots(snapshot(cache), before)


def test_consecutive_slots_are_read_as_views() -> None:
    """Neighbouring slots cost no copy; scattered ones are gathered."""
    cache = new_cache()
    for slot in range(3):
        cache.set_audio(slot, window(2))

    together, _ = cache.audio(0, cache.plan_append([1, 2], [1, 1]).groups[0])
    scattered, _ = cache.audio(0, cache.plan_append([2, 0], [1, 1]).groups[0])

    assert together.untyped_storage().data_ptr() == cache.audio_keys.untyped_storage().data_ptr()
    assert scattered.untyped_storage().data_ptr() != cache.audio_keys.untyped_storage().data_ptr()


def test_an_intact_cache_passes_its_check() -> None:
    """After appends, windows, a shorter length, and a pass that was not finished."""
    cache = new_cache(n_tail=2)
    fill(cache, 0, 4)
    fill(cache, 2, 3)
    cache.set_audio(0, window(6))
    cache.set_audio(1, window(2, seed=1))
    cache.set_length(0, 2)
    cache.append(0, torch.ones(1, HEADS, WIDTH), torch.ones(1, HEADS, WIDTH), cache.plan_append([1], [1]))

    cache.check_integrity()


def test_a_length_beyond_what_was_written_is_found() -> None:
    """Tokens that became visible although no layer wrote them."""
    cache = new_cache()
    fill(cache, 1, 3)
    cache.advance([1], [2])

    with pytest.raises(RuntimeError, match="slot 1 counts 5 token positions, 3 of them are written"):
        cache.check_integrity()


def test_numbers_that_are_not_finite_are_found() -> None:
    """Even where they are not visible: a mask hides them, but zero times NaN is NaN."""
    cache = new_cache()
    cache.audio_keys[1, 2, 0, 5, 0] = torch.nan

    with pytest.raises(RuntimeError, match=r"slot 2 counts 0 audio positions.*all numbers finite: False"):
        cache.check_integrity()
