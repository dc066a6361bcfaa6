"""A live stream says what it says alone, however many others are decoded in the same steps."""

from __future__ import annotations

import functools
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from streamer.audio.frontend import FrontEnd
from streamer.engine.engine import WhisperEngine
from streamer.evaluation.latency import LiveTranscript
from streamer.evaluation.simulation import SimulatedPace, perform, simulate
from streamer.session.session import Session
from tests.helpers.engines import engine_on, intact, published, rounded
from tests.helpers.recordings import Recording
from tests.helpers.sessions import model_of, new_session

RATE = 16_000
ENGLISH = ("dev-jfk", "dev-sns-0870", "dev-cv-22058266", "dev-LJ002-0020", "dev-ls-1089-134686-0000")


@pytest.fixture(scope="module")
def engine() -> Iterator[WhisperEngine]:
    """tiny.en in float32, which remembers what it encoded and read, as the daemon's does."""
    yield from intact(engine_on(published("tiny.en"), max_batch=32, max_window_s=17.0))


def cuttings(recordings: dict[str, Recording], n: int, seed: int) -> list[NDArray[np.float32]]:
    """So many stretches of speech of 1.5 to 3 s, anywhere in the recordings, at different levels."""
    random = np.random.default_rng(seed)
    found = []
    for number in range(n):
        samples = recordings[ENGLISH[number % len(ENGLISH)]].samples
        length = int(random.uniform(1.5, 3.0) * RATE)
        first = int(random.uniform(0, max(1, len(samples) - length)))
        found.append(samples[first : first + length] * np.float32(random.uniform(0.2, 1.0)))
    return found


def said(
    engine: WhisperEngine, front_end: FrontEnd, streams: list[NDArray[np.float32]], n_rows: int
) -> list[LiveTranscript]:
    """What streams say that are played so many at once."""

    def opening(number: int) -> Session:
        return new_session(f"s{number}", model=model_of(engine.tokenizer))

    pace = SimulatedPace()
    openings = [
        functools.partial(lambda number, samples: perform(opening(number), front_end, samples, pace), *each)
        for each in enumerate(streams)
    ]
    return simulate(openings, engine, n_rows)


def same(one: LiveTranscript, other: LiveTranscript) -> bool:
    """Committed word for word."""
    return [turn.text for turn in one.turns] == [turn.text for turn in other.turns]


def test_alone_and_among_31_others(
    engine: WhisperEngine, front_end: FrontEnd, recordings: dict[str, Recording]
) -> None:
    """32 streams in the same steps: each has the turns and the words that it has by itself."""
    streams = cuttings(recordings, 32, seed=0)

    alone, together = (said(engine, front_end, streams, n_rows) for n_rows in (1, 32))

    assert sum(len(transcript.text.split()) for transcript in alone) > 100
    assert [transcript.text for transcript in together] == [transcript.text for transcript in alone]
    assert all(map(same, alone, together))


def test_an_encoder_in_8_bits_alone_and_among_7_others(front_end: FrontEnd, recordings: dict[str, Recording]) -> None:
    """Rounding looks at no other stream."""
    streams = cuttings(recordings, 8, seed=1)
    engine = engine_on(rounded("tiny.en"), max_batch=8, max_window_s=17.0)

    alone, together = (said(engine, front_end, streams, n_rows) for n_rows in (1, 8))

    assert sum(len(transcript.text.split()) for transcript in alone) > 20
    assert all(map(same, alone, together))
    engine.check_integrity()


@settings(max_examples=3)
@given(seed=st.integers(0, 2**20), n_rows=st.integers(2, 6))
def test_any_company(
    engine: WhisperEngine, front_end: FrontEnd, recordings: dict[str, Recording], seed: int, n_rows: int
) -> None:
    """Whatever is said beside it, and whoever comes when another one is over."""
    streams = cuttings(recordings, 6, seed)

    alone, together = (said(engine, front_end, streams, n) for n in (1, n_rows))

    assert all(map(same, alone, together))
