"""
Decoder passes of one token per slot, captured as CUDA graphs.

A pass of one token launches about twenty kernels per layer, and launching takes the host longer than running takes the
device. A graph replays all of them at once. Its shapes are fixed, so there is one graph for each size of batch, text
and window. Which slots take part and how many keys each of them sees are numbers on the device.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from model.append_plan import AppendPlan, Group, hiding
from model.cache import KVCache
from model.decoder import TextDecoder

__all__ = ["CapturedDecoder"]

SMALLEST_BATCH, SMALLEST_TEXT = 8, 128
"""Slots and self-attention keys of the smallest graph, apart from that of a single slot; each next size is double."""
AUDIO_STEP = 256
"""Cross-attention keys between one graph size and the next, silence tail not counted."""


@dataclass(frozen=True, slots=True)
class Shape:
    """Sizes that are fixed in one graph."""

    n_slots: int
    n_keys: int
    n_audio_keys: int


@dataclass(frozen=True, slots=True)
class Captured:
    """One graph with its input and output buffers."""

    inputs: Tensor
    """(3, n_slots), int64: token of each slot, position of the token, cross-attention keys it sees (tail included)."""
    logits: Tensor
    """(n_slots, n_vocab), float32."""
    queries: Tensor
    """(n_slots, n_alignment_heads, d_head)."""
    replay: Callable[[], None]


class CapturedDecoder:
    """
    Appends one token per slot and runs it by replaying a CUDA graph. On a CPU it makes the same calls without a graph.

    Args:
        decoder: On its device.
        cache: The graphs read and write its slots.
    """

    def __init__(self, decoder: TextDecoder, cache: KVCache) -> None:
        self._decoder, self._cache = decoder, cache
        self._graphs: dict[Shape, Captured] = {}
        self._batches = sorted({1, *_doubled(SMALLEST_BATCH, cache.n_slots)})
        self._texts = _doubled(SMALLEST_TEXT, cache.dims.n_text_ctx)
        steps = range(AUDIO_STEP, cache.audio_capacity, AUDIO_STEP)
        self._windows = [cache.n_tail + n for n in (*steps, cache.audio_capacity)]
        self._pool = torch.cuda.graph_pool_handle() if cache.device.type == "cuda" else None

    def __call__(self, slots: Sequence[int], tokens: Sequence[int]) -> tuple[Tensor, Tensor]:
        """
        Append one token to each of these slots and run them.

        A graph also writes to slots that take no part, behind their last token. A full one loses its last token, so
        full slots that take no part must not be used again.

        Args:
            slots: Distinct slots.
            tokens: One token per slot, inside the vocabulary.

        Returns:
            Logits (n_slots, n_vocab), float32, valid until the next call; and `DecoderOutput.queries`.

        Raises:
            ValueError: A slot is named twice or does not exist, or a token is outside the vocabulary.
            CacheFullError: A slot is full; nothing was written.
        """
        counts = [1] * len(slots)
        self._cache.check(slots, counts)
        if len(tokens) != len(slots) or not 0 <= min(tokens) <= max(tokens) < self._decoder.dims.n_vocab:
            raise ValueError(
                f"tokens {list(tokens)}: expected one from 0 to {self._decoder.dims.n_vocab - 1} for each slot"
            )
        shape = self._shape(slots)
        graph = self._graph(shape)
        graph.inputs.copy_(self._inputs(shape.n_slots, slots, tokens))
        graph.replay()
        self._cache.advance(slots, counts)
        if list(slots) == list(range(shape.n_slots)):
            return graph.logits, graph.queries.clone()
        chosen = torch.tensor(slots).to(self._cache.device)
        return graph.logits[chosen], graph.queries[chosen]

    def capture(self) -> None:
        """Capture every graph now, so that no later step waits for a capture."""
        for shape in itertools.product(self._batches, self._texts, self._windows):
            self._graph(Shape(*shape))

    def _graph(self, shape: Shape) -> Captured:
        graph = self._graphs.get(shape)
        if graph is None:
            graph = self._graphs[shape] = self._capture(shape)
        return graph

    def _shape(self, slots: Sequence[int]) -> Shape:
        """The smallest graph whose batch, text and window are large enough."""
        cache = self._cache
        longest = max(cache.length(slot) for slot in slots) + 1
        n_audio_keys = cache.n_tail + max(cache.audio_length(slot) for slot in slots)
        needed = zip((max(slots) + 1, longest, n_audio_keys), (self._batches, self._texts, self._windows), strict=True)
        return Shape(*(next(size for size in sizes if size >= n) for n, sizes in needed))

    def _inputs(self, n_slots: int, slots: Sequence[int], tokens: Sequence[int]) -> Tensor:
        """Inputs of a graph, (3, n_slots). Slots that take no part write behind their last token; if full, over it."""
        cache = self._cache
        last_tokens = [0] * n_slots
        for slot, token in zip(slots, tokens, strict=True):
            last_tokens[slot] = token
        positions = [min(cache.length(slot), cache.dims.n_text_ctx - 1) for slot in range(n_slots)]
        n_audible = [cache.n_tail + cache.audio_length(slot) for slot in range(n_slots)]
        return torch.tensor([last_tokens, positions, n_audible])

    def _capture(self, shape: Shape) -> Captured:
        inputs = self._inputs(shape.n_slots, [], []).to(self._cache.device)
        outputs: list[Tensor] = []

        def run() -> None:
            output = self._decoder.run(inputs[0], self._cache, _plan(self._cache, shape, inputs))
            outputs[:] = self._decoder.project(output.hidden), output.queries

        if self._pool is None:
            run()
            return Captured(inputs, outputs[0], outputs[1], _again(outputs, run))
        side = torch.cuda.Stream(self._cache.device)
        side.wait_stream(torch.cuda.current_stream(self._cache.device))
        with torch.cuda.stream(side):
            run()  # libraries choose kernels and allocate memory in their first call, which cannot be captured
        torch.cuda.current_stream(self._cache.device).wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
            run()
        return Captured(inputs, outputs[0], outputs[1], graph.replay)


def _again(outputs: list[Tensor], run: Callable[[], None]) -> Callable[[], None]:
    """Replay without a graph: repeat the calls and copy their results into the first results' buffers."""
    kept = list(outputs)

    def replay() -> None:
        run()
        for old, new in zip(kept, outputs, strict=True):
            old.copy_(new)

    return replay


def _plan(cache: KVCache, shape: Shape, inputs: Tensor) -> AppendPlan:
    """Plan of one token for each of the first `n_slots` slots, made of device tensors only."""
    n, device = shape.n_slots, cache.device
    _, positions, n_audible = inputs  # each (n_slots,)
    hidden_text = torch.arange(shape.n_keys, device=device) > positions[:, None]  # (n_slots, n_keys)
    hidden_audio = torch.arange(shape.n_audio_keys, device=device) >= n_audible[:, None]  # (n_slots, n_audio_keys)
    group = Group(
        tokens=slice(0, n),
        real=None,
        slots=slice(0, n),
        n=1,
        n_keys=shape.n_keys,
        mask=hiding(hidden_text, cache.dtype)[:, None, None],
        n_audio_keys=shape.n_audio_keys,
        audio_mask=hiding(hidden_audio, cache.dtype)[:, None, None],
        recurring=True,
    )
    return AppendPlan(
        slots=tuple(range(n)),
        counts=(1,) * n,
        written=torch.arange(n, device=device),
        positions=positions,
        groups=(group,),
        state=None,
    )


def _doubled(first: int, last: int) -> list[int]:
    """`first` and its doubles below `last`, then `last`."""
    sizes = itertools.takewhile(lambda size: size < last, (first << n for n in itertools.count()))
    return [*sizes, last]
