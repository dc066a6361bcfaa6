"""Tests of streamer/evaluation/simulation.py: sessions driven by stream time, on an engine of a made-up language."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from streamer.errors import EngineError
from streamer.evaluation.latency import LiveTranscript
from streamer.evaluation.simulation import Playback, SimulatedPace, keep_text, perform, simulate
from streamer.protocol.options import SessionOptions
from streamer.scheduling.revision_decoder import RevisionDecoder
from tests.helpers.scripted_engine import LoudnessFrontEnd, ScriptedEngine, reviser, spoken, story
from tests.helpers.sessions import model_of, new_session


def opening(
    engine: ScriptedEngine, name: str, samples: NDArray[np.float32], step_s: float = 0.06
) -> Callable[[], Playback]:
    """A playback of one recording that begins when it is called."""

    def begin() -> Playback:
        session = new_session(name, model=model_of(engine.tokenizer, 5))
        return perform(session, LoudnessFrontEnd(), samples, SimulatedPace(step_s=step_s))  # type: ignore[arg-type]

    return begin


def play(*texts: str, n_rows: int = 2, step_s: float = 0.06) -> tuple[list[LiveTranscript], ScriptedEngine]:
    """What is said of recordings of these words."""
    engine = ScriptedEngine()
    openings = [opening(engine, f"s{i}", spoken(text, pause_s=1.0), step_s) for i, text in enumerate(texts)]
    return simulate(openings, engine, n_rows), engine


def test_results_come_in_the_order_of_the_recordings() -> None:
    """However long each takes: short ones end first, and the next begin in their places."""
    texts = [story(20, seed=1), "c d", story(9, seed=2), "f"]

    transcripts, engine = play(*texts)

    assert [transcript.text for transcript in transcripts] == texts
    assert {len(batch) for batch in engine.batches} == {1, 2}
    assert sorted(engine.forgotten) == ["s0", "s1", "s2", "s3"]


def test_nothing_depends_on_who_plays_beside() -> None:
    """Alone or beside others, a session says the same at the same time."""
    texts = [story(12, seed=seed) for seed in range(3)]

    alone, beside = play(*texts, n_rows=1)[0], play(*texts, n_rows=3)[0]

    assert alone == beside


def test_a_slow_device_delays_words_by_what_it_takes() -> None:
    """The cost of a step is in the delays, and while one runs no other begins."""
    quick, slow = (play(story(20), step_s=step_s) for step_s in (0.0, 0.7))

    assert min(slow[0][0].first_sight_s) - min(quick[0][0].first_sight_s) == pytest.approx(0.7, abs=0.11)
    assert len(slow[1].batches) < len(quick[1].batches)
    assert slow[0][0].text == quick[0][0].text


def test_a_second_pass_revises_the_transcript_alone() -> None:
    """Live text and delays are as without it; the revised text is that of the other engine."""
    engine, samples = ScriptedEngine(), spoken("b d b", pause_s=1.0)
    decoder = RevisionDecoder([reviser(ScriptedEngine())])

    def begin(*, revise: bool) -> Playback:
        options = SessionOptions(language="en", revise=revise)
        session = new_session("s", model=model_of(engine.tokenizer, 5), options=options)
        second = decoder.decode if revise else keep_text
        return perform(session, LoudnessFrontEnd(), samples, SimulatedPace(), second)  # type: ignore[arg-type]

    plain, revised = simulate([functools.partial(begin, revise=on) for on in (False, True)], engine, 1)

    assert (plain.text, plain.revised_text) == ("b d b", "b d b")
    assert (revised.text, revised.revised_text) == ("b d b", "c d c")
    assert (revised.commit_s, revised.first_sight_s) == (plain.commit_s, plain.first_sight_s)
    assert decoder.audio_s == pytest.approx(1.0, abs=0.4)


def test_silence_asks_for_no_step() -> None:
    """A recording without voice is over without the engine."""
    engine = ScriptedEngine()

    transcripts = simulate([opening(engine, "s", np.zeros(16_000, np.float32))], engine, 4)

    assert (transcripts[0].text, transcripts[0].duration_s, engine.batches) == ("", 1.0, [])


def test_a_failed_step_ends_the_simulation() -> None:
    """Nothing is evaluated on an engine that fails."""
    engine = ScriptedEngine()
    engine.poisoned["s"] = 1

    with pytest.raises(EngineError, match="poisoned"):
        simulate([opening(engine, "s", spoken("b c d"))], engine, 1)
