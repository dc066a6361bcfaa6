"""What the engine tells its metrics: an engine on a clock that advances one second whenever it is read."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import fields, is_dataclass, replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from torch import Tensor

from model import Whisper
from streamer.engine.engine import WhisperEngine
from streamer.engine.options import EngineOptions
from streamer.engine.row import Row
from streamer.step import StepRequest
from streamer.telemetry.metrics import EngineMetrics
from streamer.text.tokenizer import Tokenizer
from tests.helpers.engines import request, toy
from tests.helpers.random_weights import random_tensors

N_FRAMES = 100


class Measured:
    """A toy engine, and what its metrics say. Whatever is timed takes one second."""

    def __init__(self, network: tuple[Whisper, Tokenizer] | None = None, **options: int) -> None:
        self.registry = CollectorRegistry()
        metrics, ticks = EngineMetrics(self.registry), itertools.count()
        options = {"max_window_s": 1.0, "n_tail": 16, "max_batch": 4} | options
        self.engine = WhisperEngine(
            *(network or toy()), EngineOptions(**options), metrics, clock=lambda: float(next(ticks))
        )
        metrics.cache_sizes(lambda: [self.engine.cache_bytes])

    def value(self, name: str, **labels: str) -> float:
        """A sample of a metric."""
        found = self.registry.get_sample_value(name, labels)
        assert found is not None
        return found

    def tokens(self) -> tuple[float, float]:
        """Newly decided tokens so far, and the seconds that they took."""
        name = "whisper_decoder_token_latency_ms"
        return self.value(f"{name}_count"), self.value(f"{name}_sum") / 1e3

    def passes(self, kind: str) -> tuple[float, float]:
        """Passes of a kind so far, and their seconds."""
        name = "whisper_decoder_pass_latency_ms"
        return self.value(f"{name}_count", kind=kind), self.value(f"{name}_sum", kind=kind) / 1e3


def window(seed: int = 0) -> Tensor:
    """One second of noise, (5, N_FRAMES)."""
    return torch.randn(5, N_FRAMES, generator=torch.Generator().manual_seed(seed)) - 1.0


def test_the_text_of_the_step_before_is_not_new() -> None:
    """The first step decides every token; the same window again decides none, although its draft is verified."""
    measured = Measured()
    first = measured.engine.step([request(window())])[0]
    n = len(first.tokens)
    # the verification is the first pass, and each further token, or the end, takes another one
    n_decode = n - 1 + first.ended
    assert n > 2
    assert measured.tokens() == (n, pytest.approx(1 + n_decode))
    assert (measured.passes("verify"), measured.passes("decode")) == ((1, 1.0), (n_decode, float(n_decode)))

    again = measured.engine.step([request(window(), draft=first.tokens)])[0]
    assert again.tokens == first.tokens
    assert measured.tokens()[0] == n
    assert measured.passes("verify") == (2, 2.0)


def test_each_row_waits_for_its_own_passes() -> None:
    """Of two rows in one step, the one that only confirms its draft adds nothing, the other all passes it was in."""
    measured = Measured()
    first = measured.engine.step([request(window())])[0]
    before, decoded = measured.tokens(), measured.passes("decode")[0]

    rows = [request(window(), "a", draft=first.tokens), request(window(), "b", draft=())]
    _, second = measured.engine.step(rows)

    count, seconds = measured.tokens()
    n_passes = 1 + measured.passes("decode")[0] - decoded
    assert count - before[0] == len(second.tokens)
    assert seconds - before[1] == pytest.approx(n_passes)


def test_a_pass_of_the_encoder_is_not_divided() -> None:
    """Three windows in one step are one observation of the whole second."""
    measured = Measured()
    measured.engine.step([request(window(n), str(n)) for n in range(3)])
    assert measured.value("whisper_encoder_forward_latency_ms_count") == 1
    assert measured.value("whisper_encoder_forward_latency_ms_sum") == 1000.0
    assert measured.value("whisper_alignment_latency_ms_sum") == 1000.0


def test_language_detection_is_measured() -> None:
    """One observation for a step with a row that asks, none for a step whose languages are known."""
    measured = Measured(multilingual())
    measured.engine.step([request(window())])
    assert measured.value("whisper_language_detection_latency_ms_count") == 0

    measured.engine.step([request(window(), language=None)])
    assert measured.value("whisper_language_detection_latency_ms_sum") == 1000.0


def test_a_step_that_fails_is_not_counted() -> None:
    """Half a step is no latency of anything."""
    measured = Measured()
    with pytest.raises(Exception, match="prefix of 60 tokens"):
        measured.engine.step([request(window(), prefix=tuple(range(60)))])
    assert measured.value("whisper_encoder_forward_latency_ms_count") == 0


@given(said=st.lists(st.integers(0, 3), max_size=8), now=st.lists(st.integers(0, 3), max_size=8))
def test_new_tokens_by_place(said: list[int], now: list[int]) -> None:
    """A token is new unless the step before had the same one at the same place, wherever the draft was rejected."""
    row = Row(
        replace(request(window()), draft=tuple(said)),
        0,
        50,
        "en",
        context=(),
        sot_at=0,
        n_cached=0,
        budget=10,
        tokens=now,
    )
    old = sum(before == after for before, after in zip(said, now, strict=False))
    assert row.n_new == len(now) - old


@settings(max_examples=15)
@given(max_batch=st.integers(1, 4), n_tail=st.integers(1, 40), steps=st.lists(st.integers(30, N_FRAMES), max_size=4))
def test_gauges_hold_all_memory_of_attention(max_batch: int, n_tail: int, steps: list[int]) -> None:
    """Their sum is that of every tensor that the engine holds beside the weights and the rules of decoding."""
    measured = Measured(max_batch=max_batch, n_tail=n_tail)
    for n, n_frames in enumerate(steps):
        prefix = tuple(range(40, 48))
        measured.engine.step([step_request(n % 2, n_frames, prefix)])

    audio, text = measured.value("whisper_attention_memory_bytes"), measured.value("whisper_kv_cache_size_bytes")
    beside = {*storages(measured.engine.model), *storages(measured.engine.rules)}
    held = {key: size for key, size in storages(measured.engine).items() if key not in beside}
    assert audio + text == sum(held.values())


def step_request(session: int, n_frames: int, prefix: tuple[int, ...]) -> StepRequest:
    """A request whose window is remembered, audio and text."""
    return request(window()[:, :n_frames], str(session), window_start=0, prefix=prefix, settled_tokens=len(prefix))


def storages(root: object) -> dict[int, int]:
    """Address and bytes of the memory of every tensor that can be reached from an object."""
    found: dict[int, int] = {}
    seen: set[int] = set()
    waiting = [root]
    while waiting:
        each = waiting.pop()
        if id(each) in seen:
            continue
        seen.add(id(each))
        if isinstance(each, Tensor):
            if each.untyped_storage().nbytes():
                found[each.untyped_storage().data_ptr()] = each.untyped_storage().nbytes()
        else:
            waiting += parts(each)
    return found


def parts(each: object) -> Iterator[object]:
    """What an object of the product or a container holds."""
    if isinstance(each, dict):
        yield from each.values()
    elif isinstance(each, list | tuple | set):
        yield from each
    elif is_dataclass(each) and not isinstance(each, type):
        yield from (getattr(each, field.name) for field in fields(each))
    elif type(each).__module__.split(".")[0] in {"model", "streamer", "torch"}:
        yield from getattr(each, "__dict__", {}).values()


def multilingual() -> tuple[Whisper, Tokenizer]:
    """Random weights over a vocabulary of single bytes with two languages."""
    tokenizer = Tokenizer([*(bytes([byte]) for byte in range(256)), b""], n_languages=2)
    dims = replace(toy()[0].dims, n_vocab=tokenizer.n_vocab)
    return Whisper.from_tensors(dims, random_tensors(dims)), tokenizer
