"""What the engine has settled of a window is invisible in what it says, up to what settled sound has not heard."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.step import StepRequest
from tests.helpers.engines import alone, engine_on, log_mel, published, request, toy
from tests.helpers.recordings import Recording


def grown(recording: Recording, edges: range) -> list[StepRequest]:
    """The same window as it grows, in frames."""
    mel = log_mel(recording)
    return [request(mel[:, :edge], "live", window_start=0) for edge in edges]


def test_a_window_seen_for_the_first_time_is_encoded_whole(recordings: dict[str, Recording]) -> None:
    """Nothing is settled yet: the very numbers of an engine that settles nothing."""
    options = {"max_batch": 1, "max_window_s": 12.0}
    settling, plain = (engine_on(published("tiny.en"), settle_s=s, **options) for s in (1.5, None))
    asked = request(log_mel(recordings["dev-sns-0870"]), window_start=0)

    assert alone(settling, asked) == alone(plain, asked)


def test_a_growing_window_says_what_whole_windows_say(recordings: dict[str, Recording]) -> None:
    """Eleven seconds of clear speech in steps of 0.7 s: the same text at the end, each step over the newest sound."""
    options = {"max_batch": 1, "max_window_s": 12.0}
    settling, plain = (engine_on(published("tiny.en"), settle_s=s, **options) for s in (1.5, None))
    steps = grown(recordings["dev-jfk"], range(180, 1100, 70))

    last = [alone(settling, asked) for asked in steps][-1]

    assert last.tokens == alone(plain, steps[-1]).tokens
    settling.check_integrity()


def test_another_window_of_the_session_is_encoded_whole(recordings: dict[str, Recording]) -> None:
    """After a roll the beginning is another one: what was settled before is not taken for it."""
    options = {"max_batch": 1, "max_window_s": 12.0}
    settling, plain = (engine_on(published("tiny.en"), settle_s=s, **options) for s in (1.0, None))
    for asked in grown(recordings["dev-jfk"], range(300, 900, 150)):
        alone(settling, asked)
    other = request(log_mel(recordings["dev-sns-0870"]), "live", window_start=200)

    assert alone(settling, other) == alone(plain, other)


def test_the_same_window_raised_otherwise_is_encoded_whole(recordings: dict[str, Recording]) -> None:
    """What was settled of quiet sound before a louder word came is not taken for the window as it is now."""
    options = {"max_batch": 1, "max_window_s": 12.0}
    settling, plain = (engine_on(published("tiny.en"), settle_s=s, **options) for s in (1.0, None))
    steps = grown(recordings["dev-jfk"], range(300, 900, 150))
    for asked in steps[:-1]:
        alone(settling, replace(asked, log_mel=asked.log_mel + 1.0, gains=(1.0,)))

    assert alone(settling, steps[-1]) == alone(plain, steps[-1])


@given(
    lengths=st.lists(st.integers(10, 200), min_size=1, max_size=12).map(sorted),
    growth=st.sampled_from([1.25, 2.0, None]),
)
@settings(max_examples=25)
def test_a_window_that_outgrew_its_last_whole_pass_is_encoded_and_read_whole(
    lengths: list[int], growth: float | None
) -> None:
    """The very numbers of an engine that never saw the window; steps between do not change what such a pass gives."""
    options = {"max_batch": 1, "max_window_s": 2.0, "bucket": 8, "n_tail": 20, "settle_s": 0.2}
    ours = engine_on(toy(), whole_pass_growth=growth, **options)
    fresh = engine_on(toy(), **options)
    sound = torch.randn(5, 200, generator=torch.Generator().manual_seed(3))
    prefix = tuple(ours.tokenizer.encode(" as it was"))
    n_whole = 0  # positions of the last whole pass that left settled ones
    for n_frames in lengths:
        asked = request(sound[:, :n_frames], window_start=0)
        if n_whole:  # text settles later than sound
            asked = replace(asked, prefix=prefix, settled_tokens=len(prefix) - 1, anchor_tokens=1)
        n_positions = n_frames // 2
        is_whole = not n_whole or (growth is not None and n_positions >= growth * n_whole)

        found = alone(ours, asked)

        if is_whole:
            fresh.forget("s")
            assert found == alone(fresh, asked)
            n_whole = n_positions if n_positions - 10 >= 8 else 0
        ours.check_integrity()


@pytest.mark.parametrize("forgotten", [False, True])
def test_a_session_that_is_over_leaves_nothing(forgotten: bool) -> None:
    """A session of the same name and beginning hears its own sound once the engine was told to forget the first."""
    engine = engine_on(toy(), max_batch=1, max_window_s=2.0, bucket=8, n_tail=20, settle_s=0.2)
    first, second = (torch.randn(5, 120, generator=torch.Generator().manual_seed(seed)) for seed in (1, 2))
    fresh = alone(engine, request(second, "other", window_start=0))
    alone(engine, request(first, "s", window_start=0))
    if forgotten:
        engine.forget("s")

    same = alone(engine, request(second, "s", window_start=0)).logprobs == fresh.logprobs

    assert same == forgotten
