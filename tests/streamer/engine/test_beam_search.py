"""Tests of streamer/engine/beam_search.py: the search on a KV cache beside one that keeps nothing, and real speech."""

from __future__ import annotations

import itertools

import pytest
import torch

from streamer.audio import mel
from streamer.engine.beam_search import is_doubtful
from streamer.engine.beams import Beams, Candidate, Hypothesis
from streamer.engine.decoding import DecodingRules, Restrictions
from streamer.engine.engine import WhisperEngine
from streamer.errors import EngineError
from tests.helpers.engines import engine_on, log_mel, published, request, toy
from tests.helpers.recordings import Recording
from tests.helpers.words import plain

BUDGET = 12
WINDOW = torch.randn(5, 200, generator=torch.Generator().manual_seed(3))


def searched_without_cache(width: int, window: torch.Tensor) -> Hypothesis:
    """The best text of the toy network, by logits that are computed afresh for every text."""
    network, tokenizer = toy()
    rules, beams = DecodingRules(tokenizer, network.dims.n_vocab, network.device), Beams(width, BUDGET, tokenizer.eot)
    context = (*tokenizer.sot_sequence("en", "transcribe"), tokenizer.no_timestamps)
    with torch.inference_mode():
        features = network.embed_audio(mel.scale(window)[None])
        while not beams.is_done:
            tokens = torch.tensor([[*context, *text.tokens] for text in beams.open])
            logits = network.logits(tokens, features.expand(len(tokens), -1, -1))[:, -1]
            is_first = not beams.open[0].tokens
            likeliest = rules.likeliest(logits, width + 1, Restrictions(first=[0] if is_first else []))
            beams.extend([[Candidate(*each) for each in of_text] for of_text in likeliest])
    return beams.best


@pytest.mark.parametrize("width", [2, 5])
def test_cached_equals_uncached(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beams that swap their slots find the same text as beams without any slot."""
    monkeypatch.setattr("streamer.engine.engine.token_budget", lambda *_: BUDGET)
    monkeypatch.setattr("streamer.engine.beam_search.DOUBTFUL", 0.0)
    engine = engine_on(toy(), max_batch=1, beams=width, max_window_s=2.0, silence_cache=False, settle_s=None)
    expected = searched_without_cache(width, WINDOW)
    for _ in range(2):  # the second time in used slots
        [found] = engine.step([request(WINDOW)])
        assert (found.tokens, found.ended) == (expected.tokens, expected.ended)
        assert found.logprobs == pytest.approx(expected.logprobs, abs=1e-4)
    engine.check_integrity()
    engine.forget("s")
    engine.check_integrity()


@pytest.fixture(scope="module")
def searching() -> WhisperEngine:
    """Five beams on published weights."""
    return engine_on(published("tiny.en"), max_batch=1, beams=5, max_window_s=30.0, settle_s=None, kv_reuse=False)


@pytest.mark.parametrize("doubtful", [0.0, -0.2])
def test_real_speech_has_its_words_and_times(
    searching: WhisperEngine, recordings: dict[str, Recording], monkeypatch: pytest.MonkeyPatch, doubtful: float
) -> None:
    """The words of the recording, each after the one before, within the sound: searched for, and sure enough."""
    monkeypatch.setattr("streamer.engine.beam_search.DOUBTFUL", doubtful)
    spoken = recordings["dev-jfk"]
    [found] = searching.step([request(log_mel(spoken), begins_sentence=True)])
    assert plain(published("tiny.en")[1].decode(found.tokens)) == plain(spoken.text)
    assert found.ended
    assert len(found.starts_s) == len(found.tokens) + 1
    assert all(a <= b for a, b in itertools.pairwise(found.starts_s))
    assert found.starts_s[-1] <= len(spoken.samples) / 16_000
    assert found.no_speech_prob < 0.1


def test_the_mean_probability_is_that_of_greedy_decoding_or_higher(
    searching: WhisperEngine, recordings: dict[str, Recording], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a cut sentence, which says one thing in several ways."""
    monkeypatch.setattr("streamer.engine.beam_search.DOUBTFUL", 0.0)
    window = log_mel(recordings["dev-jfk"], 3.2)
    [found] = searching.step([request(window)])
    [greedy] = engine_on(published("tiny.en"), max_batch=1, settle_s=None).step([request(window)])
    assert sum(found.logprobs) / len(found.logprobs) >= sum(greedy.logprobs) / len(greedy.logprobs) - 0.05


def test_a_draft_changes_nothing(
    searching: WhisperEngine, recordings: dict[str, Recording], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The live text is no head start: the search is the same with and without it."""
    monkeypatch.setattr("streamer.engine.beam_search.DOUBTFUL", 0.0)
    window, tokenizer = log_mel(recordings["dev-jfk"], 3.2), published("tiny.en")[1]
    [alone] = searching.step([request(window)])
    [drafted] = searching.step([request(window, draft=tuple(tokenizer.encode(" And so my fellow")))])
    assert drafted.tokens == alone.tokens


def test_a_sure_text_is_not_searched_for(recordings: dict[str, Recording], monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the one of greedy decoding, and costs no more."""
    monkeypatch.setattr("streamer.engine.engine.BeamSearch", None)
    window = log_mel(recordings["dev-jfk"])
    options = {"max_batch": 1, "max_window_s": 30.0, "settle_s": None, "kv_reuse": False}
    [one], [five] = (engine_on(published("tiny.en"), beams=n, **options).step([request(window)]) for n in (1, 5))
    assert (one.tokens, one.starts_s) == (five.tokens, five.starts_s)


@pytest.mark.parametrize(
    ("logprobs", "doubtful"), [([-0.1, -0.25], False), ([-0.1, -0.9], True), ([], False), ([-0.3], True)]
)
def test_what_is_doubtful(logprobs: list[float], doubtful: bool) -> None:
    """A text whose tokens are unlikely in the mean."""
    assert is_doubtful(logprobs) is doubtful


def test_one_window_without_committed_words_at_a_time(
    searching: WhisperEngine, recordings: dict[str, Recording]
) -> None:
    """The message says what was found."""
    window = log_mel(recordings["dev-jfk"], 1.0)
    for batch in ([request(window), request(window, "other")], [request(window, prefix=(843,))]):
        with pytest.raises(EngineError, match=r"expected one"):
            searching.step(batch)
