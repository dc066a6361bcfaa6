"""Tests of streamer.engine.engine on published weights; what is equal to what stands in tests/equivalence."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator

import pytest
import torch
import whisper
from prometheus_client import CollectorRegistry

from streamer.engine.engine import WhisperEngine
from streamer.engine.options import EngineOptions
from streamer.errors import DeviceError, EngineError
from streamer.telemetry.metrics import EngineMetrics
from streamer.weights import Checkpoint
from tests.helpers.engines import alone, engine_on, intact, log_mel, published, request, toy
from tests.helpers.networks import published_network
from tests.helpers.recordings import Recording

ENGLISH = ("dev-jfk", "dev-sns-0870", "dev-cv-22058266", "dev-LJ002-0020", "dev-ls-1089-134686-0000")


@pytest.fixture(scope="module")
def engine() -> Iterator[WhisperEngine]:
    """tiny.en in float32 with the silence cache."""
    yield from intact(engine_on(published("tiny.en"), max_batch=4, max_window_s=15.0))


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # the published tokenizer leaves its file open
def test_full_windows_say_what_the_published_decoder_says(
    checkpoint: Callable[[str], Checkpoint], recordings: dict[str, Recording]
) -> None:
    """Without the silence cache, every token of greedy `whisper.decode` on the same mel windows."""
    weights = checkpoint("tiny.en")
    reference = published_network(weights.dims, weights.tensors)
    engine = engine_on(published("tiny.en"), max_batch=5, silence_cache=False)
    mels = [whisper.log_mel_spectrogram(whisper.pad_or_trim(torch.from_numpy(recordings[id_].samples)))
            for id_ in ENGLISH]  # fmt: skip
    options = whisper.DecodingOptions(language="en", without_timestamps=True, fp16=False)
    expected = whisper.decode(reference, torch.stack(mels), options)

    results = engine.step([request(4 * mel - 4, id_) for id_, mel in zip(ENGLISH, mels, strict=True)])

    for result, wanted in zip(results, expected, strict=True):
        assert list(result.tokens) == wanted.tokens
        assert result.ended
        # the fixed floor of the mel lies above that of a quiet recording
        assert result.no_speech_prob == pytest.approx(wanted.no_speech_prob, abs=0.01)
    # the sum under it comes of a screened product
    assert results[0].no_speech_prob == pytest.approx(expected[0].no_speech_prob, abs=1e-3)


@pytest.mark.parametrize("id_", ["dev-jfk", "dev-sns-0870"])
def test_words_have_times_in_order(engine: WhisperEngine, recordings: dict[str, Recording], id_: str) -> None:
    """A start for each token and an end, none before the one ahead, none outside the window, spread over the speech."""
    recording = recordings[id_]
    duration_s = len(recording.samples) / 16_000

    result = alone(engine, request(log_mel(recording)))

    assert len(result.starts_s) == len(result.tokens) + 1 == len(result.logprobs) + 1
    assert list(result.starts_s) == sorted(result.starts_s)
    assert 0 <= result.starts_s[0] < 1.0
    assert duration_s - 1.5 < result.starts_s[-1] <= duration_s + 0.02
    halves = [sum(start < duration_s / 2 for start in result.starts_s), len(result.starts_s)]
    assert 0.25 < halves[0] / halves[1] < 0.75


def test_times_after_a_prefix_begin_at_its_anchor(engine: WhisperEngine, recordings: dict[str, Recording]) -> None:
    """New words keep the times they have without a prefix, to within a syllable, and do not begin before the anchor."""
    window = log_mel(recordings["dev-sns-0870"])
    whole = alone(engine, request(window))
    n = 8

    rest = alone(engine, request(window, prefix=whole.tokens[:n], anchor_tokens=1, anchor_s=whole.starts_s[n - 1]))

    assert rest.tokens == whole.tokens[n:]
    assert min(rest.starts_s) >= whole.starts_s[n - 1] - 0.02
    far = [abs(a - b) for a, b in zip(rest.starts_s, whole.starts_s[n:], strict=True) if abs(a - b) > 0.25]
    assert len(far) <= 1


def test_language_is_detected(recordings: dict[str, Recording]) -> None:
    """A multilingual model hears which language is spoken, and transcribes in it."""
    engine = engine_on(published("base"), max_batch=2, max_window_s=8.0)
    windows = [log_mel(recordings["dev-de-cheetah"]), log_mel(recordings["dev-LJ002-0020"])]

    results = engine.step([request(window, f"s{i}", language=None) for i, window in enumerate(windows)])

    assert [result.language for result in results] == ["de", "en"]
    assert "Werbung" in engine.tokenizer.decode(results[0].tokens)


def test_english_models_ask_nobody(engine: WhisperEngine, recordings: dict[str, Recording]) -> None:
    """With one language there is nothing to detect."""
    window = log_mel(recordings["dev-ls-1089-134686-0000"])

    assert alone(engine, request(window, language=None)) == alone(engine, request(window))


def test_silence_is_recognised(engine: WhisperEngine, recordings: dict[str, Recording]) -> None:
    """The probability of no speech tells silence from speech."""
    silence, speech = engine.step(
        [request(torch.full((80, 300), -8.0), "silence"), request(log_mel(recordings["dev-sns-0870"]), "speech")]
    )

    assert silence.no_speech_prob > 0.5 > speech.no_speech_prob


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        ([request(torch.zeros(5, 100), "a")] * 2, "2 requests of 1 sessions: expected one per session, at most 4"),
        ([request(torch.zeros(5, 100), f"s{i}") for i in range(5)], "5 requests of 5 sessions"),
        ([request(torch.zeros(6, 100), "a")], "window of shape .6, 100.: expected .* this model needs 5 bands"),
        ([request(torch.zeros(100), "a")], "window of shape .100,.: expected"),
        ([request(torch.full((5, 100), float("nan")), "a")], "window of 100 frames holds infinity or NaN"),
        ([request(torch.zeros(5, 100), "a", draft=(1, -2))], "tokens from -2"),
        ([request(torch.zeros(5, 100), "a", prefix=(1, 99_999))], "tokens from .* to 99999"),
        ([request(torch.zeros(5, 100), "a", prefix=(1,) * 47)], "tokens leaves -?[0-9]+ of 48"),
    ],
    ids=[
        "a session twice",
        "too many",
        "wrong mel bands",
        "no bands",
        "NaN",
        "negative",
        "foreign",
        "past the context",
    ],
)
def test_impossible_requests_are_refused_before_anything_changes(batch: list[object], message: str) -> None:
    """A request that cannot be is refused before anything is remembered of it."""
    engine = engine_on(toy(), max_batch=4, max_window_s=2.0, bucket=8, n_tail=20)

    with pytest.raises(EngineError, match=message):
        engine.step(batch)  # type: ignore[arg-type]


@pytest.mark.parametrize("n_frames", [0, 201, 400])
def test_windows_that_are_empty_or_too_long_are_refused(n_frames: int) -> None:
    """Both are refused by name: sound must not be dropped unseen."""
    engine = engine_on(toy(), max_batch=1, max_window_s=1.0, margin_frames=4, bucket=8, n_tail=20)

    with pytest.raises(EngineError, match=f"window of {n_frames} frames: expected 1 to 112"):
        engine.step([request(torch.zeros(5, n_frames))])


def test_a_device_that_fails_is_a_failed_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """What torch reports of the device is a failed step, with torch's words; a fault of the program is none."""
    engine = engine_on(toy(), max_batch=1, max_window_s=1.0, margin_frames=4, bucket=8, n_tail=20)
    asked = request(torch.zeros(5, 80))
    expected = alone(engine, asked)

    def fail(*_: object, error: Exception) -> None:
        raise error

    with monkeypatch.context() as broken:
        broken.setattr(
            engine.model.decoder,
            "audio_keys_values",
            functools.partial(fail, error=torch.OutOfMemoryError("no memory")),
        )
        with pytest.raises(DeviceError, match="step of 1 failed on the device: no memory"):
            engine.step([asked])
        broken.setattr(engine.model.decoder, "audio_keys_values", functools.partial(fail, error=TypeError("a fault")))
        with pytest.raises(TypeError):
            engine.step([asked])

    assert alone(engine, asked) == expected


def test_a_step_is_seen_in_the_metrics(recordings: dict[str, Recording]) -> None:
    """A step is seen in the metrics: its pass over the windows and its tokens; a probe is not."""
    registry = CollectorRegistry()
    options = EngineOptions(max_batch=2, max_window_s=4.0, margin_frames=16, bucket=16, n_tail=256)
    engine = WhisperEngine(*published("tiny.en"), options, EngineMetrics(registry))
    result = alone(engine, request(log_mel(recordings["dev-LJ002-0020"])))

    value = registry.get_sample_value
    assert value("whisper_encoder_forward_latency_ms_count") == 1
    assert value("whisper_decoder_token_latency_ms_count") == len(result.tokens)
    # one pass over what is known yields the first token, each other token and the end one more
    assert value("streamer_decoder_passes_total") == len(result.tokens) + 1

    alone(engine, request(log_mel(recordings["dev-LJ002-0020"]), is_probe=True))
    assert value("whisper_encoder_forward_latency_ms_count") == 1
    assert value("streamer_decoder_passes_total") == len(result.tokens) + 1


@pytest.mark.parametrize("drafted", [True, False])
def test_a_committed_word_is_final(engine: WhisperEngine, recordings: dict[str, Recording], drafted: bool) -> None:
    """A prefix that ends inside a word is not continued there, whatever was guessed; where it ends does not matter."""
    window = log_mel(recordings["dev-ls-1089-134686-0000"])
    said = alone(engine, request(window)).tokens
    inside = [n for n in range(1, len(said)) if engine.tokenizer.decode(said[n : n + 1])[:1].isalnum()]
    assert inside

    for n in inside:
        found = alone(engine, request(window, prefix=said[:n], draft=said[n:] if drafted else ()))

        text = engine.tokenizer.decode(found.tokens)
        marks = len(text) - len(text.lstrip(".,;:!?"))
        assert not text[marks : marks + 1].isalnum(), text
