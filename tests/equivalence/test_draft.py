"""Whatever is guessed, the step says what greedy decoding says without a guess, and counts what was guessed right."""

from __future__ import annotations

from dataclasses import replace
from itertools import takewhile

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.engine.engine import WhisperEngine
from streamer.step import StepResult
from streamer.text.repetition import is_repetition_loop
from tests.helpers.engines import SCREENED_LOGPROB, alone, engine_on, log_mel, published, request, without_draft
from tests.helpers.recordings import Recording

WORDS = tuple(range(256))
"""Text tokens of the toy vocabulary."""


def assert_same_text(result: StepResult, expected: StepResult, draft: tuple[int, ...]) -> None:
    """
    Same tokens and end; `n_verified` is the part of the draft that they begin with.

    A draft raises the budget of a row, so a text that the budget cuts may go on; up to the cut it is the same.
    """
    n = len(expected.tokens)
    is_cut = not expected.ended and not is_repetition_loop(expected.tokens)
    assert result.tokens[:n] == expected.tokens
    assert is_cut or (len(result.tokens), result.ended) == (n, expected.ended)
    right = len(list(takewhile(lambda pair: pair[0] == pair[1], zip(draft, result.tokens, strict=False))))
    # the last token of a bound is always decoded, never taken from the draft
    assert result.n_verified == min(right, len(draft), len(result.tokens) - (0 if result.ended else 1))
    torch.testing.assert_close(result.logprobs[:n], expected.logprobs, rtol=0, atol=SCREENED_LOGPROB)


def test_drafts_of_real_speech_change_nothing(tiny_engine: WhisperEngine, recordings: dict[str, Recording]) -> None:
    """Right to some point and wrong from there, shorter and longer than the text, and longer than the context."""
    window = log_mel(recordings["dev-sns-0870"])
    expected = alone(tiny_engine, request(window))
    for n_right, n_wrong in ((0, 1), (1, 30), (9, 0), (9, 400), (1000, 0), (1000, 1)):
        draft = (*expected.tokens[:n_right], *range(1000, 1000 + n_wrong))

        result = alone(tiny_engine, request(window, draft=draft))

        assert_same_text(result, expected, draft)


def test_the_draft_of_a_shorter_window(tiny_engine: WhisperEngine, recordings: dict[str, Recording]) -> None:
    """What a session does: each hypothesis is the draft of the next step, under new sound and a prompt."""
    draft: tuple[int, ...] = ()
    for seconds in (1.0, 3.0, 5.0):
        window = log_mel(recordings["dev-jfk"], seconds)
        asked = request(window, prompt=(464, 10893, 1139), draft=draft)
        expected = alone(tiny_engine, without_draft(asked))

        result = alone(tiny_engine, asked)

        assert_same_text(result, expected, draft)
        draft = result.tokens


def test_a_text_said_in_several_steps_is_that_of_one(recordings: dict[str, Recording]) -> None:
    """Where other rows do not wait for all of it: each step goes on where the one before stopped."""
    window = log_mel(recordings["dev-sns-0870"])
    whole = alone(engine_on(published("tiny.en"), max_window_s=15.0), request(window))
    in_parts = engine_on(published("tiny.en"), max_window_s=15.0, max_serial=5)
    lengths, result = [], alone(in_parts, request(window))
    while not result.ended:
        lengths.append(len(result.tokens))
        result = alone(in_parts, request(window, draft=result.tokens))

    assert lengths == [*range(5, len(whole.tokens), 5)]
    assert result.tokens == whole.tokens


@settings(max_examples=40)
@given(
    kept=st.integers(0, 40),
    guess=st.lists(st.sampled_from(WORDS), max_size=60),
    prefix=st.lists(st.sampled_from(WORDS), max_size=8),
    n_frames=st.integers(2, 200),
    terms=st.lists(st.text("abc ", max_size=4), max_size=3),
)
def test_random_drafts_change_nothing(
    toy_engine: WhisperEngine, kept: int, guess: list[int], prefix: list[int], n_frames: int, terms: list[str]
) -> None:
    """Any tokens at all, after any part of the right ones, whatever terms are favoured."""
    window = torch.randn(5, n_frames, generator=torch.Generator().manual_seed(n_frames))
    asked = request(window, prefix=tuple(prefix), keyterms=tuple(terms))
    expected = alone(toy_engine, asked)
    draft = (*expected.tokens[:kept], *guess)

    result = alone(toy_engine, replace(asked, draft=draft))

    assert_same_text(result, expected, draft)


def test_drafts_under_key_terms_change_nothing(tiny_engine: WhisperEngine, recordings: dict[str, Recording]) -> None:
    """A word that is chosen only where it is favoured is chosen with any draft; the unfavoured text is a wrong one."""
    window = log_mel(recordings["dev-ls-1089-134686-0000"])
    plain = alone(tiny_engine, request(window))
    asked = request(window, keyterms=("Zorbak", "fattened"))
    expected = alone(tiny_engine, asked)
    assert "fattened" in tiny_engine.tokenizer.decode(expected.tokens)
    assert "fattened" not in tiny_engine.tokenizer.decode(plain.tokens)

    for draft in (plain.tokens, expected.tokens, expected.tokens[:6]):
        assert_same_text(alone(tiny_engine, replace(asked, draft=draft)), expected, draft)


def test_a_draft_that_ends_the_text(tiny_engine: WhisperEngine, recordings: dict[str, Recording]) -> None:
    """An end in the draft ends the text, and is not part of it."""
    asked = request(log_mel(recordings["dev-sns-0870"]))
    expected = alone(tiny_engine, asked)

    result = alone(tiny_engine, request(asked.log_mel, draft=(*expected.tokens, tiny_engine.tokenizer.eot, 1000)))

    assert result.tokens == expected.tokens
    assert result.ended


def test_a_text_that_does_not_end_goes_on_the_same_with_any_draft(
    tiny_engine: WhisperEngine, recordings: dict[str, Recording]
) -> None:
    """Past the place where it may not end, decoding is greedy again, and a draft of all of it is confirmed."""
    window = log_mel(recordings["dev-sns-0870"])
    ended = alone(tiny_engine, request(window))
    n = len(ended.tokens)

    longer = alone(tiny_engine, request(window, draft=ended.tokens, no_eot_at=n))
    again = alone(tiny_engine, request(window, draft=longer.tokens, no_eot_at=n))

    assert longer.tokens[:n] == ended.tokens
    assert len(longer.tokens) > n
    assert again.tokens == longer.tokens
    assert again.n_verified >= n
