"""How loud speech is makes no difference to what is understood."""

from __future__ import annotations

import pytest

from streamer.audio.frontend import FrontEnd
from streamer.audio.mel import MelSpectrogram
from streamer.audio.vad import VoiceDetector, read_weights
from streamer.engine.engine import WhisperEngine
from streamer.evaluation.scoring import word_scorer
from streamer.evaluation.simulation import SimulatedPace, perform, simulate
from tests.helpers.recordings import Recording
from tests.helpers.sessions import model_of, new_session


@pytest.mark.parametrize("decibels", [-20, -40, -65])
def test_quiet_speech_is_understood(
    tiny_engine: WhisperEngine, recordings: dict[str, Recording], decibels: int
) -> None:
    """A recording played softly is understood but for a few words; under a fixed floor it would drown."""
    front_end = FrontEnd(MelSpectrogram(80), VoiceDetector(read_weights()))
    samples = recordings["dev-jfk"].samples * 10 ** (decibels / 20)
    session = new_session("quiet", model=model_of(tiny_engine.tokenizer))

    (transcript,) = simulate([lambda: perform(session, front_end, samples, SimulatedPace())], tiny_engine, 1)

    score = word_scorer()("en", recordings["dev-jfk"].text, transcript.text)
    assert score.errors <= score.words / 6
