"""Tests of streamer/slots.py: who sits where, and what that slot still holds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.slots import SlotTable

NAMES = "abcdefg"


def test_sticky_keeps_the_slot() -> None:
    """A session comes back to its slot, and to the tokens in it, in any company."""
    table = SlotTable(3)
    [slot] = table.assign(["a"], sticky=True)
    table.remember(slot, [1, 2, 3])
    assert table.assign(["b", "a"], sticky=True)[1] == slot
    assert table.held(slot) == (1, 2, 3)


def test_least_recently_used_is_evicted() -> None:
    """A newcomer takes the slot of whoever was away longest, and finds it empty."""
    table = SlotTable(2)
    first, second = table.assign(["a", "b"], sticky=True)
    table.remember(first, [1])
    table.remember(second, [2])
    table.assign(["a"], sticky=True)
    assert table.assign(["c"], sticky=True) == [second]
    assert table.held(second) == ()
    assert table.held(first) == (1,)


def test_own_batch_is_never_evicted() -> None:
    """A session of the batch keeps its slot, even if it was away longest."""
    table = SlotTable(2)
    first, second = table.assign(["a", "b"], sticky=True)
    assert table.assign(["c", "a"], sticky=True) == [second, first]


def test_not_sticky_counts_from_zero() -> None:
    """Without memory the slots are the first ones, in order of the batch."""
    table = SlotTable(4)
    table.assign(["x"], sticky=False)
    assert table.assign(["c", "a", "b"], sticky=False) == [0, 1, 2]


@pytest.mark.parametrize("sticky", [True, False])
@pytest.mark.parametrize("batch", [["a", "a"], ["a", "b", "c"]])
def test_impossible_batches(batch: list[str], sticky: bool) -> None:
    """A session twice, or more sessions than slots, is an error."""
    with pytest.raises(ValueError, match="sessions for 2 slots"):
        SlotTable(2).assign(batch, sticky=sticky)


def test_release_frees_the_slot() -> None:
    """A session that is over leaves an empty slot; releasing a stranger does nothing."""
    table = SlotTable(1)
    table.remember(table.assign(["a"], sticky=True)[0], [1])
    table.release("stranger")
    table.release("a")
    assert table.held(0) == ()
    assert table.assign(["b"], sticky=True) == [0]


@given(
    n_slots=st.integers(1, 4),
    doings=st.lists(
        st.one_of(st.sampled_from(NAMES), st.lists(st.sampled_from(NAMES), unique=True, min_size=1, max_size=4)),
        max_size=40,
    ),
)
def test_like_a_recency_list(n_slots: int, doings: list[str | list[str]]) -> None:
    """Under any use: distinct slots in range, a session's tokens are its own or gone, the longest away goes first."""
    table = SlotTable(n_slots)
    recent: list[str] = []
    wrote: dict[str, tuple[int, ...]] = {}
    for count, doing in enumerate(doings):
        if isinstance(doing, str):
            table.release(doing)
            recent = [name for name in recent if name != doing]
            continue
        batch = doing[:n_slots]
        slots = table.assign(batch, sticky=True)
        assert len(set(slots)) == len(batch)
        assert set(slots) <= set(range(n_slots))
        for name, slot in zip(batch, slots, strict=True):
            assert table.held(slot) == (wrote[name] if name in recent else ())
            wrote[name] = (count, slot)
            table.remember(slot, wrote[name])
        others = [name for name in recent if name not in batch]
        newcomers = [name for name in batch if name not in recent]
        known = [name for name in batch if name in recent]
        recent = [*others[max(0, len(others) + len(batch) - n_slots) :], *known, *newcomers]
