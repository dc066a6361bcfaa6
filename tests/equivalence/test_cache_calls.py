"""The KV cache under random legal and illegal calls is a plain list of values for each slot, within its bounds."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
import torch
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from torch import Tensor

from model import AppendPlan, KVCache
from tests.helpers.networks import SMALL

N_SLOTS, AUDIO_CAPACITY, N_TAIL = 3, 6, 2
OUTER = (2, SMALL.n_text_layer, SMALL.n_text_head)
SHAPES = {
    "right": lambda n: (*OUTER, n, SMALL.d_head),
    "one head": lambda n: (*OUTER[:2], 1, n, SMALL.d_head),
    "one column": lambda n: (*OUTER, n, 1),
    "no layers": lambda n: (2, SMALL.n_text_head, n, SMALL.d_head),
}
"""Shapes of keys and values; all but the first would be broadcast or fail inside torch."""
slots = st.integers(-1, N_SLOTS)
lengths = st.integers(-2, SMALL.n_text_ctx + 2)
shapes = st.sampled_from(["right", "right", "right", *SHAPES])
rows = st.lists(st.tuples(slots, st.integers(0, SMALL.n_text_ctx)), max_size=3)


def holding(values: list[float], shape: str = "right") -> Tensor:
    """Keys and values whose position i is filled with `values[i]`."""
    return torch.tensor(values).view(-1, 1).expand(SHAPES[shape](len(values))).clone()


class CacheCalls(RuleBasedStateMachine):
    """A cache beside lists of numbers: each position holds one number in all layers and heads."""

    def __init__(self) -> None:
        super().__init__()
        self.cache = KVCache(SMALL, n_slots=N_SLOTS, audio_capacity=AUDIO_CAPACITY, tail=holding([1.0] * N_TAIL))
        self.text: list[list[float]] = [[] for _ in range(N_SLOTS)]
        self.audio: list[list[float]] = [[] for _ in range(N_SLOTS)]
        self.used: set[int] = set()
        self.plans: list[tuple[AppendPlan, list[tuple[int, int]]]] = []
        self.numbers = itertools.count(2)

    def new(self, n: int) -> list[float]:
        """Numbers that were never written before."""
        return [float(next(self.numbers)) for _ in range(n)]

    def exists(self, slot: int) -> bool:
        """Whether the cache has this slot."""
        return 0 <= slot < N_SLOTS

    def fits(self, asked: list[tuple[int, int]]) -> bool:
        """Whether these (slot, count) rows can be appended now."""
        named = [slot for slot, _ in asked]
        return bool(asked) and len(set(named)) == len(named) and all(
            self.exists(slot) and count >= 1 and len(self.text[slot]) + count <= SMALL.n_text_ctx
            for slot, count in asked
        )  # fmt: skip

    def state(self, asked: list[tuple[int, int]]) -> list[tuple[int, int]]:
        """Tokens and audio positions of these rows' slots."""
        return [(len(self.text[slot]), len(self.audio[slot])) for slot, _ in asked]

    def attempt(self, is_legal: bool, call: Callable[[], object]) -> bool:
        """Make a call; an illegal one must be refused by a ValueError."""
        if is_legal:
            call()
        else:
            with pytest.raises(ValueError, match=r"expected|holds|window|pass|tokens|plan"):
                call()
        return is_legal

    @rule(asked=rows)
    def plan(self, asked: list[tuple[int, int]]) -> None:
        """Plans are made at any time, and kept."""

        def make() -> None:
            plan = self.cache.plan_append([slot for slot, _ in asked], [count for _, count in asked])
            self.plans.append((plan, self.state(asked)))
            self.used |= {slot for slot, _ in asked}

        self.attempt(self.fits(asked), make)

    @rule(choice=st.integers(0, 5), completes=st.booleans())
    def use(self, choice: int, completes: bool) -> None:
        """A pass by any plan, new, used or stale; it may fail before it is made visible."""
        if not self.plans:
            return
        plan, planned = self.plans[-1 - choice % len(self.plans)]
        asked = list(zip(plan.slots, plan.counts, strict=True))
        new = [self.new(count) for count in plan.counts]
        flat = torch.tensor([value for row in new for value in row]).view(-1, 1, 1)
        keys = flat.expand(-1, SMALL.n_text_head, SMALL.d_head)

        def run() -> None:
            for layer in range(SMALL.n_text_layer):
                self.cache.append(layer, keys, keys, plan)
            if completes:
                self.cache.advance(plan.slots, plan.counts)

        if self.attempt(self.state(asked) == planned, run) and completes:
            for (slot, _), values in zip(asked, new, strict=True):
                self.text[slot] += values

    @rule(slot=slots, length=lengths)
    def truncate(self, slot: int, length: int) -> None:
        """To any length, shorter ones only."""
        is_legal = self.exists(slot) and 0 <= length <= len(self.text[slot])
        if self.attempt(is_legal, lambda: self.cache.set_length(slot, length)):
            del self.text[slot][length:]

    @rule(slot=slots, counts=st.lists(st.integers(0, 5), max_size=3), shape=shapes)
    def hear(self, slot: int, counts: list[int], shape: str) -> None:
        """A window in parts, of which the last may have a wrong shape."""
        parts = [self.new(n) for n in counts]
        shaped = [holding(part, shape if part is parts[-1] else "right") for part in parts]
        n = sum(counts)
        is_legal = self.exists(slot) and n <= AUDIO_CAPACITY and (shape == "right" or not parts)
        if self.attempt(is_legal, lambda: self.cache.set_audio(slot, *shaped)):
            self.audio[slot] = [value for part in parts for value in part]
            self.used.add(slot)

    @rule(slot=slots, n=st.integers(0, SMALL.n_text_ctx + 2), shape=shapes)
    def replace_text(self, slot: int, n: int, shape: str) -> None:
        """By any number of tokens."""
        values = self.new(n)
        is_legal = self.exists(slot) and n <= SMALL.n_text_ctx and shape == "right"
        if self.attempt(is_legal, lambda: self.cache.set_text(slot, holding(values, shape))):
            self.text[slot] = values

    @rule(slot=slots, n=lengths)
    def copy(self, slot: int, n: int) -> None:
        """Of tokens that the slot holds only."""
        is_legal = self.exists(slot) and 0 <= n <= len(self.text[slot])
        self.attempt(is_legal, lambda: self.cache.text_of(slot, n, torch.float32))

    @rule(asked=rows)
    def advance_unwritten(self, asked: list[tuple[int, int]]) -> None:
        """Made visible without a plan, and taken back: the bound holds here too."""
        named, counts = [slot for slot, _ in asked], [count for _, count in asked]
        if self.attempt(self.fits(asked), lambda: self.cache.advance(named, counts)):
            for slot in named:
                self.cache.set_length(slot, len(self.text[slot]))

    @rule()
    def clear(self) -> None:
        """Everything is empty; the silence tail stays."""
        self.cache.clear()
        self.text, self.audio = ([[] for _ in range(N_SLOTS)] for _ in range(2))

    @invariant()
    def slots_hold_what_the_lists_hold(self) -> None:
        """In every slot, whatever was called before."""
        tail = slice(0, N_TAIL)
        for slot in range(N_SLOTS):
            text, audio = self.text[slot], self.audio[slot]
            assert self.cache.length(slot) == len(text) <= SMALL.n_text_ctx
            assert self.cache.audio_length(slot) == len(audio) <= AUDIO_CAPACITY
            assert torch.equal(self.cache.text_of(slot, len(text), torch.float32), holding(text))
            end = N_TAIL + len(audio)
            heard = torch.stack([self.cache.audio_keys, self.cache.audio_values])[:, :, slot]
            assert torch.equal(heard[..., N_TAIL:end, :], holding(audio))
            assert slot not in self.used or bool((heard[..., tail, :] == 1.0).all())
        self.cache.check_integrity()


CacheCalls.TestCase.settings = settings(max_examples=60, stateful_step_count=30)
TestCacheCalls = CacheCalls.TestCase
