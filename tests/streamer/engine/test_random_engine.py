"""Tests of streamer.engine.random_engine: made-up text that grows, is corrected, and is timed like real captions."""

from __future__ import annotations

import functools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from model import ModelDimensions, Whisper
from streamer.engine.budget import token_budget
from streamer.engine.options import EngineOptions
from streamer.engine.random_engine import TOKENS_PER_SECOND, RandomEngine
from streamer.errors import EngineError
from streamer.step import StepRequest
from streamer.telemetry.metrics import EngineMetrics
from tests.helpers.engines import alone, published, request
from tests.helpers.random_weights import random_tensors

OPTIONS = EngineOptions(max_batch=4, max_window_s=8.0, bucket=16, n_tail=64)


@functools.cache
def network() -> Whisper:
    """Random weights of next to no width over the vocabulary of the English models."""
    dims = ModelDimensions(
        n_mels=5,
        n_audio_ctx=500,
        n_audio_state=8,
        n_audio_head=2,
        n_audio_layer=1,
        n_vocab=published("tiny.en")[1].n_vocab,
        n_text_ctx=64,
        n_text_state=8,
        n_text_head=2,
        n_text_layer=1,
    )
    return Whisper.from_tensors(dims, random_tensors(dims))


@pytest.fixture(scope="module")
def engine() -> RandomEngine:
    """Of which nothing is remembered between steps."""
    return RandomEngine(network(), published("tiny.en")[1], OPTIONS, EngineMetrics(CollectorRegistry()))


def noise(seconds: float) -> torch.Tensor:
    """A window, (n_mels, n_frames)."""
    return torch.randn(5, round(seconds * 100), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("seconds", [1.0, 3.0, 8.0])
def test_text_grows_at_the_rate_of_speech(engine: RandomEngine, seconds: float) -> None:
    """As many tokens as are read in that time, each a word of letters, whatever the network would have chosen."""
    result = alone(engine, request(noise(seconds)))

    assert len(result.tokens) == int(seconds * TOKENS_PER_SECOND)
    assert result.ended
    words = engine.tokenizer.decode(result.tokens).split()
    assert len(words) == len(result.tokens)
    assert all(word.isalpha() for word in words)


def test_every_pass_of_the_network_is_run() -> None:
    """A step costs what it would with real weights: one encoder pass, and a decoder pass for each new token."""
    registry = CollectorRegistry()
    engine = RandomEngine(network(), published("tiny.en")[1], OPTIONS, EngineMetrics(registry))

    said = alone(engine, request(noise(3.0))).tokens

    assert registry.get_sample_value("whisper_encoder_forward_latency_ms_count") == 1
    assert registry.get_sample_value("streamer_decoder_passes_total") == len(said) + 1


def test_the_newest_word_is_misheard(engine: RandomEngine) -> None:
    """As a draft, a text is confirmed to its last word under more sound, and that is corrected."""
    draft = alone(engine, request(noise(3.0))).tokens

    result = alone(engine, request(noise(4.0), draft=draft))

    assert result.n_verified == len(draft) - 1
    assert result.tokens[: len(draft) - 1] == draft[:-1]
    assert result.tokens[len(draft) - 1] != draft[-1]
    assert len(result.tokens) == int(4.0 * TOKENS_PER_SECOND)


def test_text_goes_on_after_what_is_certain(engine: RandomEngine) -> None:
    """After a prefix come the words that stood after it, as many as there is sound behind its last one."""
    whole = alone(engine, request(noise(4.0)))
    n = 6
    anchor_s = whole.starts_s[n - 1]

    rest = alone(
        engine, request(noise(4.0), prefix=whole.tokens[:n], draft=whole.tokens[n:], anchor_tokens=1, anchor_s=anchor_s)
    )

    assert rest.n_verified >= len(whole.tokens) - n - 1
    assert rest.tokens[: rest.n_verified] == whole.tokens[n:][: rest.n_verified]
    assert len(rest.tokens) == pytest.approx(len(whole.tokens) - n, abs=1)


@pytest.mark.parametrize("seconds", [0.1, 0.28, 1.0, 8.0])
def test_times_end_at_the_edge(engine: RandomEngine, seconds: float) -> None:
    """One for each token and the end of the last, evenly before the newest sound, none before the window."""
    result = alone(engine, request(noise(seconds)))

    assert len(result.starts_s) == len(result.tokens) + 1
    assert list(result.starts_s) == sorted(result.starts_s)
    assert result.starts_s[0] >= 0
    assert result.starts_s[-1] == pytest.approx(seconds)
    gaps = torch.tensor(result.starts_s).diff()
    assert torch.allclose(gaps, torch.full_like(gaps, 1 / TOKENS_PER_SECOND), atol=1e-3) or seconds < 0.3


@st.composite
def requests(draw: st.DrawFn, session: str) -> StepRequest:
    """Any possible one."""
    tokens = st.integers(0, 50_000)
    prefix = tuple(draw(st.lists(tokens, max_size=50)))
    return request(
        noise(draw(st.floats(0.01, 8.0))),
        session,
        prompt=tuple(range(draw(st.sampled_from([0, 5, 300])))),
        prefix=prefix,
        draft=tuple(draw(st.lists(tokens, max_size=80))),
        anchor_tokens=draw(st.integers(0, len(prefix))),
        anchor_s=draw(st.floats(0, 8)),
    )


@settings(max_examples=40)
@given(batch=st.tuples(requests("a"), requests("b"), requests("c")))
def test_every_limit_holds(engine: RandomEngine, batch: tuple[StepRequest, ...]) -> None:
    """Rows are bounded as those of a real engine, and times in order."""
    for asked, result in zip(batch, engine.step(batch), strict=True):
        room = 64 - 2 - len(asked.prefix)
        plausible = token_budget(asked.log_mel.shape[1], "en", len(asked.prefix), len(asked.draft))
        assert len(result.tokens) <= min(room, plausible)
        assert len(result.logprobs) == len(result.tokens) == len(result.starts_s) - 1
        assert 0 <= result.n_verified <= min(len(result.tokens), len(asked.draft))
        assert list(result.starts_s) == sorted(result.starts_s)
        assert result.starts_s[0] >= 0


def test_impossible_requests_are_refused_as_ever(engine: RandomEngine) -> None:
    """A window that is too long."""
    with pytest.raises(EngineError, match="window of 999 frames"):
        engine.step([request(torch.zeros(5, 999))])
