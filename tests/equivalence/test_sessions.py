"""The place of a session in the engine's memory is invisible in what it says."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.engine.engine import WhisperEngine
from streamer.errors import EngineError
from streamer.step import StepRequest
from tests.helpers.engines import alone, engine_on, forget, log_mel, published, request, toy
from tests.helpers.recordings import Recording


def noise(n_frames: int, seed: int) -> torch.Tensor:
    """A window for the toy engine."""
    return torch.randn(5, n_frames, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("kv_reuse", [False, True], ids=["exact", "committed"])
def test_a_session_after_another_is_alone(recordings: dict[str, Recording], kv_reuse: bool) -> None:
    """After a long session with prompt and prefix, a new one in its slot says what it says in a new engine."""
    used = engine_on(published("tiny.en"), max_batch=1, max_window_s=12.0, kv_reuse=kv_reuse)
    alone(used, request(log_mel(recordings["dev-jfk"]), "before", prompt=tuple(range(800, 1100)), prefix=(843, 523)))
    asked = request(log_mel(recordings["dev-LJ002-0020"]), "after")

    assert alone(used, asked) == alone(forget(used), asked)


@settings(max_examples=20)
@given(order=st.lists(st.integers(0, 5), min_size=1, max_size=10))
def test_any_order_of_sessions(toy_engine: WhisperEngine, order: list[int]) -> None:
    """Six sessions that take turns, two remembered: each step says what it says to an engine that knows nobody."""
    engine = engine_on(toy(), max_batch=2, max_window_s=2.0, bucket=8, n_tail=20, settle_s=None, max_remembered=2)
    for session in order:
        # the sound of a session stays: then what is remembered is exact
        prefix = (session, 7)[: 1 + session % 2]
        asked = request(
            noise(30 + 20 * session, session), f"s{session}", window_start=0, prefix=prefix, settled_tokens=1
        )

        assert alone(engine, asked).tokens == alone(toy_engine, asked).tokens
        engine.check_integrity()


def test_more_sessions_than_are_remembered(toy_engine: WhisperEngine) -> None:
    """A session that was forgotten for others pays a prefill and says the same."""
    engine = engine_on(toy(), max_batch=2, max_window_s=2.0, bucket=8, n_tail=20, settle_s=None, max_remembered=2)
    asked = request(noise(80, 0), "s", window_start=0, prefix=(1, 2, 3), settled_tokens=2)
    first = alone(engine, asked)

    engine.step([request(noise(50, 1), "a", window_start=0), request(noise(60, 2), "b", window_start=0)])

    assert alone(engine, asked).tokens == first.tokens


def test_a_step_that_fails_leaves_no_trace() -> None:
    """After a request that cannot be, the others in the batch and the session itself say what they would have."""
    engine = engine_on(toy(), max_batch=2, max_window_s=2.0, bucket=8, n_tail=20, settle_s=None, max_remembered=2)
    good = request(noise(80, 0), "good", window_start=0, prefix=(1, 2, 3), settled_tokens=2)
    impossible = StepRequest(session="bad", log_mel=noise(80, 1), prefix=tuple(range(60)))
    expected = alone(forget(engine), good)
    alone(engine, good)

    with pytest.raises(EngineError, match="60 tokens leaves"):
        engine.step([good, impossible])

    assert alone(engine, good).tokens == expected.tokens
    assert alone(engine, request(noise(80, 1), "bad")) == alone(forget(engine), request(noise(80, 1), "bad"))
    engine.check_integrity()
