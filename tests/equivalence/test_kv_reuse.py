"""Keys and values of text kept over encoder passes: exact while the sound is the same, valid when it grew."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from streamer.engine.engine import WhisperEngine
from tests.helpers.engines import SCREENED_LOGPROB, alone, engine_on, intact, log_mel, published, request
from tests.helpers.recordings import Recording


@pytest.fixture
def keeping() -> Iterator[WhisperEngine]:
    """tiny.en in float32 that keeps what is settled, and encodes each window whole."""
    yield from intact(engine_on(published("tiny.en"), max_batch=2, max_window_s=12.0, settle_s=None))


def test_same_sound_is_exact(
    keeping: WhisperEngine, tiny_engine: WhisperEngine, recordings: dict[str, Recording]
) -> None:
    """A prefix that grows under unchanged sound gives the tokens and times of a step that remembers nothing."""
    window = log_mel(recordings["dev-jfk"], 6.0)
    text = alone(tiny_engine, request(window)).tokens

    for n in (0, 4, 9, 9):
        asked = request(window, window_start=0, prompt=(464, 10893), prefix=text[:n], settled_tokens=n, draft=text[n:])
        kept, exact = alone(keeping, asked), alone(tiny_engine, asked)

        assert (kept.tokens, kept.ended, kept.n_verified) == (exact.tokens, exact.ended, exact.n_verified)
        assert kept.logprobs == pytest.approx(exact.logprobs, abs=SCREENED_LOGPROB)


def test_growing_sound_is_valid(
    keeping: WhisperEngine, tiny_engine: WhisperEngine, recordings: dict[str, Recording]
) -> None:
    """Under sound that grows the result keeps its form: as many numbers as tokens, times in order and in the window."""
    committed: tuple[int, ...] = ()
    draft: tuple[int, ...] = ()
    for tenths in range(15, 111, 12):
        window = log_mel(recordings["dev-jfk"], tenths / 10)
        asked = request(
            window,
            window_start=0,
            prefix=committed,
            settled_tokens=len(committed),
            draft=draft,
            anchor_tokens=min(1, len(committed)),
        )
        result = alone(keeping, asked)

        assert len(result.logprobs) == len(result.tokens)
        assert len(result.starts_s) == len(result.tokens) + 1
        assert list(result.starts_s) == sorted(result.starts_s)
        assert 0 <= result.starts_s[0] <= result.starts_s[-1] <= tenths / 10 + 0.02
        assert max(result.tokens, default=0) < keeping.tokenizer.eot
        committed, draft = (*committed, *result.tokens[:-4]), result.tokens[-4:]

    text = keeping.tokenizer.decode((*committed, *draft)).lower()
    assert "ask not what your country can do for you" in text


def test_a_prefix_that_was_replaced_is_read_anew(
    keeping: WhisperEngine, tiny_engine: WhisperEngine, recordings: dict[str, Recording]
) -> None:
    """Only tokens that are still the same are taken over."""
    window = log_mel(recordings["dev-jfk"])
    encode = keeping.tokenizer.encode
    alone(
        keeping, request(window, window_start=0, settled_tokens=4, prefix=tuple(encode(" And so my fellow Americans")))
    )
    asked = request(window, window_start=0, settled_tokens=4, prefix=tuple(encode(" And so, my fellow countrymen")))

    assert alone(keeping, asked).tokens == alone(tiny_engine, asked).tokens


def test_a_new_window_is_read_anew(
    keeping: WhisperEngine, tiny_engine: WhisperEngine, recordings: dict[str, Recording]
) -> None:
    """The same words at the beginning of another window were heard there: nothing is taken over."""
    prefix = tuple(keeping.tokenizer.encode(" And so my fellow Americans"))
    alone(keeping, request(log_mel(recordings["dev-LJ002-0020"], 6.0), window_start=0, prefix=prefix, settled_tokens=4))
    asked = request(log_mel(recordings["dev-jfk"], 6.0), window_start=300, prefix=prefix, settled_tokens=4)

    found, exact = alone(keeping, asked), alone(tiny_engine, asked)

    assert found.tokens == exact.tokens
    assert found.logprobs == pytest.approx(exact.logprobs, abs=SCREENED_LOGPROB)


def test_settled_text_is_not_read_again(keeping: WhisperEngine, recordings: dict[str, Recording]) -> None:
    """A second step feeds the anchor with the token before it and what is not settled, nothing else of the prefix."""
    window = log_mel(recordings["dev-jfk"], 6.0)
    text = alone(keeping, request(window, window_start=0)).tokens
    asked = request(window, window_start=0, prefix=text[:8], settled_tokens=5, draft=text[8:], anchor_tokens=1)
    fed: list[int] = []
    handle = keeping.model.decoder.register_forward_pre_hook(lambda _module, inputs: fed.append(inputs[0].shape[0]))

    first = alone(keeping, asked)
    n_first = len(fed)
    again = alone(keeping, asked)
    handle.remove()

    assert first.tokens == again.tokens
    assert (fed[0], fed[n_first]) == (2 + len(text), 3 + len(text) - 8)
