"""The decoder's context is a hard bound: a step ends at it cleanly, or says that it cannot begin."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.audio.frontend import FrontEnd
from streamer.engine.budget import MIN_ROOM, token_budget, wanted_tokens
from streamer.engine.engine import WhisperEngine
from streamer.errors import EngineError
from streamer.protocol.events import Bye
from streamer.protocol.options import Delay, SessionOptions
from streamer.session.audio_window import WindowOptions
from streamer.step import StepRequest, StepResult
from streamer.text.repetition import is_repetition_loop
from streamer.text.tokenizer import Tokenizer
from tests.helpers.engines import alone, engine_on, intact, log_mel, published, request, toy
from tests.helpers.recordings import Recording
from tests.helpers.sessions import model_of, new_session
from tests.helpers.stepping import play

N_TEXT_CTX = 48
"""Of the toy network."""


@pytest.fixture(scope="module", params=[False, True], ids=["exact", "committed"])
def engine(request: pytest.FixtureRequest) -> Iterator[WhisperEngine]:
    """The toy network, with and without memory."""
    yield from intact(
        engine_on(toy(), max_batch=4, max_window_s=2.0, bucket=8, n_tail=20, kv_reuse=request.param, settle_s=None)
    )


@st.composite
def requests(draw: st.DrawFn, session: str = "s") -> StepRequest:
    """Any request, the impossible ones too."""
    tokens = st.integers(0, 255)
    n_prefix = draw(st.sampled_from([0, 5, 20, 37, 38, 39, 60]))
    prefix = tuple(draw(st.lists(tokens, min_size=n_prefix, max_size=n_prefix)))
    n_frames = draw(st.integers(1, 200))
    return StepRequest(
        session=session,
        window_start=draw(st.sampled_from([None, 0])),
        log_mel=torch.randn(5, n_frames, generator=torch.Generator().manual_seed(n_frames)),
        prompt=tuple(range(draw(st.sampled_from([0, 1, 22, 23, 24])))) * draw(st.sampled_from([1, 43])),
        prefix=prefix,
        settled_tokens=draw(st.integers(0, 1 + len(prefix))),
        draft=tuple(draw(st.lists(tokens, max_size=draw(st.sampled_from([0, 20, 100]))))),
        anchor_tokens=draw(st.integers(0, 1 + len(prefix))),
        anchor_s=draw(st.floats(0, 3)),
        language=draw(st.sampled_from(["en", None])),
    )


def room(asked: StepRequest) -> int:
    """Tokens that the context leaves beside the start sequence and the prefix; below `MIN_ROOM` it is impossible."""
    return N_TEXT_CTX - 2 - len(asked.prefix)


def bound(asked: StepRequest) -> int:
    """Most tokens a step may say: what a window can hold, and what the prompt has left of the context."""
    n_free = room(asked) - wanted_tokens(len(asked.draft)) - 1
    n_prompt = max(0, min(len(asked.prompt), N_TEXT_CTX // 2 - 1, room(asked) // 2 - 1, n_free))
    plausible = token_budget(asked.log_mel.shape[1], "en", len(asked.prefix), len(asked.draft))
    return min(plausible, room(asked) - (n_prompt + 1 if n_prompt else 0))


@settings(max_examples=80)
@given(batch=st.tuples(requests("a"), requests("b"), requests("c")), n=st.integers(1, 3))
def test_any_request_stays_within_the_bounds(engine: WhisperEngine, batch: tuple[StepRequest, ...], n: int) -> None:
    """Prompt, prefix and draft of any length: a result within the bounds, or an EngineError where there is no room."""
    asked = batch[:n]
    if any(room(each) < MIN_ROOM for each in asked):
        with pytest.raises(EngineError, match="tokens leaves"):
            engine.step(asked)
        return
    for each, result in zip(asked, engine.step(asked), strict=True):
        assert len(result.tokens) <= bound(each)
        assert result.ended or len(result.tokens) == bound(each) or is_repetition_loop(result.tokens)
        assert len(result.logprobs) == len(result.tokens) == len(result.starts_s) - 1
        assert not any(logprob != logprob for logprob in result.logprobs)
        assert list(result.starts_s) == sorted(result.starts_s)
        # a position is 20 ms: the last one may reach 10 ms past an odd number of frames
        assert 0 <= result.starts_s[0] <= result.starts_s[-1] <= each.log_mel.shape[1] / 100 + 0.011


def test_the_cache_never_passes_the_context() -> None:
    """Sessions that say all they can, again and again, hold at most the context."""
    engine = engine_on(toy(), max_batch=2, max_window_s=2.0, bucket=8, n_tail=20, settle_s=None)
    for step in range(6):
        batch = [
            request(
                torch.randn(5, 200),
                session,
                window_start=0,
                prompt=tuple(range(200)),
                prefix=tuple(range(3 * step)),
                settled_tokens=3 * step,
                draft=(9,),
            )
            for session in ("a", "b")
        ]
        engine.step(batch)

        engine.check_integrity()  # raises where a slot holds more tokens than its capacity


def test_a_thousand_tokens_of_prompt(tiny_engine: WhisperEngine, recordings: dict[str, Recording]) -> None:
    """Only the newest part of a long prompt is read, and the speech still understood."""
    spoken = log_mel(recordings["dev-sns-0870"])
    prompt = tuple(tiny_engine.tokenizer.encode(" Elinor walked on and Marianne followed her." * 125))
    assert len(prompt) >= 1000

    result = alone(tiny_engine, request(spoken, prompt=prompt))

    assert "leisure to consider" in tiny_engine.tokenizer.decode(result.tokens)
    assert result == alone(tiny_engine, request(spoken, prompt=prompt[-223:]))


def test_run_aways_end_at_the_budget(tiny_engine: WhisperEngine) -> None:
    """A network that goes in circles is stopped by what a window can hold."""
    window = torch.full((80, 100), -3.0)
    loop = tuple(tiny_engine.tokenizer.encode(" you" * 10))

    result = alone(tiny_engine, request(window, prefix=loop))

    assert len(result.tokens) <= token_budget(100, "en", len(loop))


def test_a_prefix_up_to_the_context() -> None:
    """Any prefix that leaves room for a few tokens is taken; the next longer one is refused by name."""
    engine = engine_on(published("tiny.en"), max_batch=1, max_window_s=2.0)
    window = torch.full((80, 100), -3.0)
    longest = 448 - 2 - MIN_ROOM

    assert len(alone(engine, request(window, prefix=(1212,) * longest)).tokens) <= MIN_ROOM
    with pytest.raises(EngineError, match="tokens leaves"):
        engine.step([request(window, prefix=(1212,) * (longest + 1))])


class Babbler:
    """An engine that says as much as the bounds allow, all at the end of it, in windows that are long enough."""

    def __init__(self, tokenizer: Tokenizer, spread_s: float, silent_s: float) -> None:
        self.words = [token for token in range(1000, 20_000) if tokenizer.decode([token])[:2].strip().isalpha()]
        self.spread_s, self.silent_s = spread_s, silent_s

    def step(self, batch: Sequence[StepRequest]) -> list[StepResult]:
        """As `Engine.step`."""
        return [self._say(asked) for asked in batch]

    def forget(self, session: str) -> None:
        """Nothing was remembered."""

    def _say(self, asked: StepRequest) -> StepResult:
        n_frames = asked.log_mel.shape[1]
        # the longest start sequence: what is possible here is possible for every model
        if 448 - 4 - len(asked.prefix) < MIN_ROOM:
            raise EngineError(f"{len(asked.prefix)} tokens of prefix")
        n = min(448 - 4 - len(asked.prefix), token_budget(n_frames, "en", len(asked.prefix), len(asked.draft)))
        n = 0 if n_frames / 100 < self.silent_s and not asked.prefix else n
        begin_s = max(asked.anchor_s, n_frames / 100 - self.spread_s)
        times = np.linspace(begin_s, max(begin_s, n_frames / 100 - 0.4), n + 1)
        said = len(asked.prefix)
        return StepResult(
            tokens=tuple(self.words[said : said + n]),
            logprobs=(-0.1,) * n,
            starts_s=tuple(float(at) for at in times),
            n_verified=0,
            ended=False,
            no_speech_prob=0.0,
            language="en",
        )


@pytest.mark.parametrize("delay", ["minimal", "low"])
@pytest.mark.parametrize(("spread_s", "silent_s"), [(1.0, 0.0), (6.0, 0.0), (2.0, 7.0), (1.0, 4.0)])
def test_a_session_never_asks_the_impossible(
    tiny_engine: WhisperEngine,
    front_end: FrontEnd,
    recordings: dict[str, Recording],
    delay: Delay,
    spread_s: float,
    silent_s: float,
) -> None:
    """Whatever an engine says: windows roll, turns end, and no request is one that no step can answer."""
    tokenizer = tiny_engine.tokenizer
    window = WindowOptions(max_window_s=8.0, keep_s=3.0)
    session = new_session(model=model_of(tokenizer), options=SessionOptions(language="en", delay=delay), window=window)
    samples = np.tile(recordings["dev-sns-0870"].samples, 3)

    events = play(session, Babbler(tokenizer, spread_s, silent_s), front_end, [samples], interval_s=0.5)

    assert isinstance(events[-1], Bye)
