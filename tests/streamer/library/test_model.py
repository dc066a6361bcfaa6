"""Tests of streamer/library/model.py on published weights: whole recordings, arrays, live streams, languages."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import whisper

import streamer
from streamer.audio.pcm import SAMPLE_RATE
from streamer.config import Config
from streamer.errors import AudioFormatError, EngineError, ModelNotFoundError
from streamer.library import SpeechModel
from streamer.library.model import samples_of, sound_of
from streamer.protocol.events import Bye, Caption, TurnEnd
from streamer.protocol.options import SessionOptions
from streamer.protocol.turns import FinalTurns
from streamer.weights import Checkpoint
from tests.helpers.engines import published
from tests.helpers.networks import published_network
from tests.helpers.recordings import Recording
from tests.helpers.words import plain

DATA = Path(__file__).parents[2] / "data"


@pytest.fixture(scope="module")
def model() -> SpeechModel:
    """tiny.en in float32."""
    return SpeechModel(*published("tiny.en"), Config())


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # the published tokenizer leaves its file open
@pytest.mark.parametrize("id_", ["dev-LJ002-0020", "dev-sns-0870", "dev-ls-1089-134686-0000"])
def test_text_is_that_of_the_published_package(
    model: SpeechModel, checkpoint: Callable[[str], Checkpoint], recordings: dict[str, Recording], id_: str
) -> None:
    """Every token of greedy `whisper.decode` without timestamps; `transcribe` gives the same text in segments."""
    samples = recordings[id_].samples
    weights = checkpoint("tiny.en")
    reference = published_network(weights.dims, weights.tensors)
    mel = whisper.log_mel_spectrogram(whisper.pad_or_trim(samples))
    options = whisper.DecodingOptions(language="en", without_timestamps=True, fp16=False)
    expected = whisper.decode(reference, mel, options)

    result = model.decode(samples, language="en")
    transcript = model.transcribe(DATA / f"{id_}.flac")

    assert list(result.tokens) == expected.tokens
    assert transcript.text == expected.text
    assert transcript.text == " ".join(segment.text for segment in transcript.segments)


def test_segments_have_words_in_order(model: SpeechModel, recordings: dict[str, Recording]) -> None:
    """Their times lie within the recording, one after the other; confidences are probabilities."""
    transcript = model.transcribe(recordings["dev-sns-0870"].samples)

    words = [word for segment in transcript.segments for word in segment.words]
    edges = [edge for word in words for edge in (word.start_s, word.end_s)]
    assert edges == sorted(edges)
    assert 0.0 <= edges[0] < edges[-1] <= transcript.duration_s
    assert all(0.0 < word.confidence <= 1.0 for word in words)
    for segment in transcript.segments:
        assert segment.text == "".join(word.text for word in segment.words).strip()
        assert (segment.start_s, segment.end_s) == (segment.words[0].start_s, segment.words[-1].end_s)
        assert segment.language == transcript.language == "en"


def test_silence_has_no_segments(model: SpeechModel) -> None:
    """Nor has a recording without samples."""
    for n in (0, 3 * SAMPLE_RATE):
        transcript = model.transcribe(np.zeros(n, np.float32))

        assert (transcript.text, transcript.segments) == ("", ())
        assert transcript.duration_s == n / SAMPLE_RATE


def test_arrays_of_every_form_are_read(recordings: dict[str, Recording]) -> None:
    """Integers, floats, channels and rates give the same samples."""
    samples = recordings["dev-LJ002-0020"].samples
    stereo = np.stack([samples, samples], axis=1)
    integers = (samples * 32768).astype(np.int16)

    np.testing.assert_allclose(samples_of(stereo.astype(np.float64), SAMPLE_RATE), samples, atol=1e-6)
    np.testing.assert_allclose(samples_of(integers, SAMPLE_RATE), samples, atol=1e-4)
    np.testing.assert_allclose(samples_of(DATA / "dev-LJ002-0020.flac", 1), samples, atol=1e-6)
    assert len(samples_of(samples, 2 * SAMPLE_RATE)) == pytest.approx(len(samples) / 2, abs=2)


def test_channels_of_an_array_are_chosen_as_a_whole(recordings: dict[str, Recording]) -> None:
    """From its first sample on, and what was done is told."""
    samples = recordings["dev-LJ002-0020"].samples
    sound = sound_of(np.stack([np.zeros_like(samples), samples], axis=1), SAMPLE_RATE)
    np.testing.assert_array_equal(sound.samples, samples)
    assert [str(note) for note in sound.notes] == ["channel 1 is silent: channel 2 is transcribed, not the plain mean"]


def test_what_was_lost_of_a_file_is_told(model: SpeechModel, recordings: dict[str, Recording], tmp_path: Path) -> None:
    """With the transcript, and as a warning of Python by the methods that return something else."""
    samples = recordings["dev-LJ002-0020"].samples.copy()
    samples[-1] = np.nan
    soundfile.write(tmp_path / "clip.wav", samples, SAMPLE_RATE, subtype="FLOAT")
    told = "at 1.5 s: sound is not made of numbers: silence stands for it"
    assert model.transcribe(tmp_path / "clip.wav").warnings == (told,)
    with pytest.warns(UserWarning, match=told):
        model.decode(tmp_path / "clip.wav", language="en")


@pytest.mark.parametrize(
    ("samples", "rate", "message"),
    [
        (np.zeros((2, 3, 4)), 16000, r"samples of shape \(2, 3, 4\): expected \(n,\) or \(n, channels\)"),
        (np.zeros((2, 100)), 16000, r"samples of shape \(2, 100\): expected"),
        (np.zeros(4, np.uint8), 16000, "samples of dtype uint8: expected floats or signed integers"),
        (np.full(16000, 3e3), 16000, "floats in the range of integers: expected -1 to 1; divide them by 32768"),
        (np.zeros(4), 10, "10 samples per second, expected 1000 to 384000"),
    ],
)
def test_arrays_that_are_no_sound_are_refused(samples: np.ndarray, rate: int, message: str) -> None:  # type: ignore[type-arg]
    """By shape, dtype, rate or range."""
    with pytest.raises(AudioFormatError, match=message):
        samples_of(samples, rate)


def test_a_stream_says_what_was_said(model: SpeechModel, recordings: dict[str, Recording]) -> None:
    """Captions while it is spoken, the turns' text at the end, `Bye` last; nothing stays cached."""
    samples = recordings["dev-sns-0870"].samples
    blocks = np.array_split(samples, 20)

    events = list(model.stream(blocks, SessionOptions(language="en")))

    text = " ".join(event.text for event in events if isinstance(event, TurnEnd))
    reference = recordings["dev-sns-0870"].text.lower().split()
    said = {word.strip(".,?!") for word in text.lower().split()}
    assert len(said & set(reference)) > 0.7 * len(set(reference))
    assert sum(isinstance(event, Caption) for event in events) > 3
    assert isinstance(events[-1], Bye)
    assert events[-1].audio_s == pytest.approx(len(samples) / SAMPLE_RATE, abs=0.01)


def test_a_revised_turn_says_what_the_whole_recording_says(
    model: SpeechModel, recordings: dict[str, Recording]
) -> None:
    """Its second pass decodes all of the turn, before the stream ends."""
    samples = recordings["dev-LJ002-0020"].samples
    turns = FinalTurns()

    for event in model.stream(np.array_split(samples, 20), SessionOptions(revise=True, endpoint_ms=2000)):
        turns.take(event)

    assert [plain(turn.text) for turn in turns] == [plain(model.transcribe(samples).text)]
    with pytest.raises(EngineError, match=r"revise = 'base': expected True, False or 'tiny\.en', this model"):
        model.stream([], SessionOptions(revise="base"))


def test_a_stream_reads_its_blocks_one_by_one(model: SpeechModel, recordings: dict[str, Recording]) -> None:
    """An event comes before the next block is read; a stream that is left is forgotten."""
    samples = recordings["dev-sns-0870"].samples
    n_read = 0

    def blocks() -> Iterator[np.ndarray]:  # type: ignore[type-arg]
        nonlocal n_read
        for block in np.array_split(samples, 40):
            n_read += 1
            yield block

    stream = model.stream(blocks())
    next(event for event in stream if isinstance(event, Caption))
    stream.close()  # type: ignore[attr-defined]

    assert n_read < 40


def test_languages_are_detected() -> None:
    """With their probabilities, likeliest first; an English model knows one."""
    base = SpeechModel(*published("base"), Config())
    probabilities = base.detect_language(DATA / "dev-de-cheetah.flac")

    assert base.is_multilingual
    assert next(iter(probabilities)) == "de"
    assert list(probabilities) == sorted(probabilities, key=lambda code: -probabilities[code])
    assert sum(probabilities.values()) == pytest.approx(1.0, abs=1e-4)
    assert len(probabilities) == len(base.languages) == base.network.dims.n_languages


def test_an_english_model_detects_english(model: SpeechModel) -> None:
    """Without asking the network."""
    assert not model.is_multilingual
    assert model.detect_language(np.zeros(100)) == {"en": 1.0}


def test_impossible_requests_are_refused(model: SpeechModel) -> None:
    """A language that the model lacks, a window of more than 30 s, an unknown option, a model that is not there."""
    with pytest.raises(EngineError, match="language 'de': this model knows en"):
        model.decode(np.zeros(1600), language="de")
    with pytest.raises(EngineError, match="window of 3100 frames: expected 1 to 3000"):
        model.decode(np.zeros(31 * SAMPLE_RATE))
    with pytest.raises(TypeError, match="unexpected keyword argument 'langage'"):
        model.decode(np.zeros(1600), langage="de")  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="unexpected keyword argument 'langage'"):
        model.transcribe(np.zeros(1600), langage="de")  # type: ignore[call-arg]
    with pytest.raises(ModelNotFoundError, match="no model is called nowhere"):
        streamer.load("nowhere")


def test_load_is_the_way_in() -> None:
    """`streamer.load` gives a model in the dtype asked for."""
    model = streamer.load("tiny.en", device="cpu", dtype="float32")

    assert (model.network.dtype, model.network.device) == (torch.float32, torch.device("cpu"))
