"""What is said several times is written as often, live, by a real network."""

from __future__ import annotations

import numpy as np
import pytest

from streamer.audio.frontend import FrontEnd
from streamer.audio.pcm import SAMPLE_RATE
from streamer.evaluation.simulation import SimulatedPace, perform, simulate
from streamer.protocol.options import SessionOptions
from streamer.session.audio_window import WindowOptions
from tests.helpers.engines import engine_on, published
from tests.helpers.recordings import Recording
from tests.helpers.sessions import model_of, new_session
from tests.helpers.words import TOKENIZER, plain


@pytest.mark.parametrize(("start_s", "end_s", "text"), [(8.05, 10.7, "country"), (3.24, 4.48, "not")])
def test_a_phrase_said_five_times_is_written_five_times(
    recordings: dict[str, Recording], front_end: FrontEnd, start_s: float, end_s: float, text: str
) -> None:
    """With gaps too short to be pauses; behind such a text the decoder alone says a round too many."""
    phrase = np.asarray(recordings["dev-jfk"].samples)[round(start_s * SAMPLE_RATE) : round(end_s * SAMPLE_RATE)]
    gap = np.zeros(SAMPLE_RATE // 5, np.float32)
    samples = np.concatenate([gap, *[part for _ in range(5) for part in (phrase, gap)]]).astype(np.float32)
    session = new_session(
        options=SessionOptions(language="en"), window=WindowOptions(max_window_s=15.0), model=model_of(TOKENIZER)
    )
    engine = engine_on(published("tiny.en"), max_batch=1, max_window_s=20.0)

    [transcript] = simulate([lambda: perform(session, front_end, samples, SimulatedPace())], engine, 1)

    assert plain(transcript.text).count(text) == 5
