"""A batch of unlike requests says for each what it says alone."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch

from streamer.engine.engine import WhisperEngine
from streamer.host.cpu import bfloat16_features, cpuinfo
from streamer.step import StepRequest, StepResult
from tests.helpers.engines import SCREENED_LOGPROB, alone, engine_on, log_mel, published, request
from tests.helpers.recordings import Recording

BF16_LOGPROB = 0.25
"""Two tokens whose log-probabilities differ by no more may change places in bfloat16."""


@pytest.fixture(scope="module")
def unlike(recordings: dict[str, Recording], tiny_engine: WhisperEngine) -> list[StepRequest]:
    """Windows from half a second to eleven, with and without prompt, prefix, anchor and draft."""
    jfk = log_mel(recordings["dev-jfk"])
    text = alone(tiny_engine, request(jfk)).tokens
    encode = tiny_engine.tokenizer.encode
    return [
        request(jfk, "whole"),
        request(jfk[:, :310], "short", draft=text[:12]),
        request(log_mel(recordings["dev-sns-0870"]), "prompted", prompt=tuple(encode(" Sense and Sensibility."))),
        request(jfk, "committed", prefix=text[:10], anchor_tokens=1, anchor_s=3.0, draft=text[10:]),
        request(log_mel(recordings["dev-LJ002-0020"]), "wrong", draft=tuple(range(500, 540))),
        request(jfk[:, 200:250], "half a second"),
        request(
            log_mel(recordings["dev-ls-1089-134686-0000"], 6.4),
            "long prompt",
            prompt=tuple(encode(" He looked at the potatoes." * 60)),
            draft=tuple(encode(" He hoped there would be stew")),
        ),
    ]


def batches(items: Sequence[StepRequest]) -> list[list[StepRequest]]:
    """All of them, and two out of order."""
    return [list(items), [items[4], items[3]]]


def test_company_makes_no_difference_in_float32(tiny_engine: WhisperEngine, unlike: list[StepRequest]) -> None:
    """Same tokens, ends, confirmed drafts and times, in any order and any company."""
    expected = {asked.session: alone(tiny_engine, asked) for asked in unlike}

    for batch in batches(unlike):
        for asked, result in zip(batch, tiny_engine.step(batch), strict=True):
            assert_equal(result, expected[asked.session])


def assert_equal(result: StepResult, expected: StepResult) -> None:
    """Equal in everything discrete, close in the rest."""
    assert result.tokens == expected.tokens
    assert (result.ended, result.n_verified, result.language) == (
        expected.ended,
        expected.n_verified,
        expected.language,
    )
    assert result.no_speech_prob == pytest.approx(expected.no_speech_prob, abs=1e-3)
    torch.testing.assert_close(result.logprobs, expected.logprobs, rtol=0, atol=SCREENED_LOGPROB)
    torch.testing.assert_close(result.starts_s, expected.starts_s, rtol=0, atol=0.021)


def test_company_makes_no_difference_to_full_windows(unlike: list[StepRequest]) -> None:
    """The same without cached silence."""
    engine = engine_on(published("tiny.en"), max_batch=2, silence_cache=False)
    batch = unlike[1:3]
    expected = [alone(engine, asked) for asked in batch]

    for result, wanted in zip(engine.step(batch), expected, strict=True):
        assert_equal(result, wanted)


def test_bfloat16_differs_in_ties_only(unlike: list[StepRequest]) -> None:
    """Where company changes a token, the two were as likely, to within the arithmetic."""
    engine = engine_on(published("tiny.en", torch.bfloat16), max_batch=8, max_window_s=15.0)
    # without instructions for it bfloat16 takes ten times as long as float32, and no daemon chooses it
    batch = unlike if bfloat16_features(cpuinfo()) else [unlike[n] for n in (1, 4, 5)]
    expected = [alone(engine, asked) for asked in batch]

    for result, wanted in zip(engine.step(batch), expected, strict=True):
        pairs = list(zip(result.tokens, wanted.tokens, result.logprobs, wanted.logprobs, strict=False))
        first = next((i for i, (a, b, _, _) in enumerate(pairs) if a != b), None)
        if first is not None:
            assert abs(pairs[first][2] - pairs[first][3]) <= BF16_LOGPROB
        elif len(result.tokens) == len(wanted.tokens):
            torch.testing.assert_close(result.logprobs, wanted.logprobs, rtol=0, atol=BF16_LOGPROB)


def test_detection_beside_a_known_language(recordings: dict[str, Recording]) -> None:
    """A row whose language is detected hears only itself."""
    engine = engine_on(published("base"), max_batch=3, max_window_s=8.0)
    german = log_mel(recordings["dev-de-cheetah"])
    english = log_mel(recordings["dev-sns-0870"], 4.0)
    batch = [
        request(english, "known"),
        request(german, "asked", language=None),
        request(english, "asked too", language=None),
    ]
    expected = [alone(engine, asked) for asked in batch]

    results = engine.step(batch)

    assert [result.language for result in results] == ["en", "de", "en"]
    for result, wanted in zip(results, expected, strict=True):
        assert_equal(result, wanted)
