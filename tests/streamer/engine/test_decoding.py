"""Tests of streamer/engine/decoding.py: hand-made logits, and the published filters on the same."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
import whisper
from torch import Tensor
from whisper.decoding import SuppressBlank, SuppressTokens
from whisper.tokenizer import Tokenizer as PublishedTokenizer

from streamer.engine.decoding import DecodingRules, Restrictions
from streamer.errors import DeviceError
from streamer.text.tokenizer import Tokenizer
from streamer.weights.vocabulary import build_tokenizer
from tests.helpers.networks import published_tokenizer
from tests.helpers.words import TOKENIZER as ENGLISH

MULTILINGUAL = build_tokenizer(Path(whisper.__file__).parent / "assets" / "multilingual.tiktoken", 51865)
KINDS = [
    pytest.param(ENGLISH, published_tokenizer(multilingual=False), id="english"),
    pytest.param(MULTILINGUAL, published_tokenizer(multilingual=True), id="multilingual"),
]
CPU = torch.device("cpu")


def rules(tokenizer: Tokenizer) -> DecodingRules:
    """Rules for a network of just the tokenizer's size."""
    return DecodingRules(tokenizer, tokenizer.n_vocab, CPU)


def published_filters(tokenizer: PublishedTokenizer, logits: Tensor, *, is_first: bool) -> Tensor:
    """What the published filters leave without timestamps, all special tokens but the end shut out, too."""
    special = [tokenizer.transcribe, tokenizer.translate, tokenizer.sot, tokenizer.sot_prev, tokenizer.sot_lm]
    suppressed = sorted({*tokenizer.non_speech_tokens, *special, tokenizer.no_speech})
    tokens = torch.zeros(logits.shape[0], 3 if is_first else 4, dtype=torch.long)
    filtered = logits.clone()
    SuppressBlank(tokenizer, sample_begin=3).apply(filtered, tokens)
    SuppressTokens(suppressed).apply(filtered, tokens)
    # languages and timestamps are left to the network there
    filtered[:, tokenizer.eot + 1 :] = -torch.inf
    return filtered


@pytest.mark.parametrize(("ours", "published"), KINDS)
@pytest.mark.parametrize("is_first", [True, False])
def test_filters_are_the_published_ones(ours: Tokenizer, published: PublishedTokenizer, is_first: bool) -> None:
    """On the same logits the same tokens are shut out, and the choice and its probability are the same."""
    logits = torch.randn(16, ours.n_vocab, generator=torch.Generator().manual_seed(0)) * 3
    # tokens the filters are about are the likeliest ones, so that a forgotten filter shows
    logits[:8, list(ours.non_speech_tokens)] += 20
    logits[4:, list(ours.blank_tokens)] += 30
    logits[8:, ours.eot + 1 :] += 10
    expected = published_filters(published, logits, is_first=is_first)
    places = list(range(16)) if is_first else []
    choice = rules(ours).choose(logits, Restrictions(first=places))
    assert torch.equal(logits, expected)
    assert choice.tokens == expected.argmax(dim=-1).tolist()
    best = expected.log_softmax(dim=-1).max(dim=-1).values
    torch.testing.assert_close(torch.tensor(choice.logprobs), best, rtol=0, atol=1e-5)


def test_first_place_says_neither_blank_nor_end() -> None:
    """Where text begins the end may not come at once; one place further it may."""
    logits = torch.zeros(2, ENGLISH.n_vocab)
    logits[:, ENGLISH.eot] = 9.0
    logits[:, ENGLISH.encode(" so")[0]] = 5.0
    choice = rules(ENGLISH).choose(logits, Restrictions(first=[0]))
    assert choice.tokens == [ENGLISH.encode(" so")[0], ENGLISH.eot]
    assert all(logprob <= 0 for logprob in choice.logprobs)


@pytest.mark.parametrize(
    ("small", "capital", "lead", "chosen"),
    [(" and", " And", 3.0, " And"), (" and", " And", 5.0, " and"), (" и", " И", 3.0, " И"), ("好", "是", 3.0, "好")],
)
def test_a_capital_is_likelier_where_a_sentence_begins(small: str, capital: str, lead: float, chosen: str) -> None:
    """In every script that has capitals; a letter that is much likelier is still chosen, with its own probability."""
    logits = torch.zeros(2, MULTILINGUAL.n_vocab)
    logits[:, MULTILINGUAL.encode(small)[0]] = 20.0
    logits[:, MULTILINGUAL.encode(capital)[0]] = 20.0 - lead
    expected = logits[0].clone()
    expected[[*range(MULTILINGUAL.eot + 1, MULTILINGUAL.n_vocab), *MULTILINGUAL.non_speech_tokens]] = -torch.inf
    choice = rules(MULTILINGUAL).choose(logits, Restrictions(capital=[0]))
    assert choice.logprobs[0] == pytest.approx(float(expected.log_softmax(dim=-1)[choice.tokens[0]]), abs=1e-4)
    assert choice.tokens == [MULTILINGUAL.encode(chosen)[0], MULTILINGUAL.encode(small)[0]]


@pytest.mark.parametrize(("lead", "n_rivals", "chosen"), [(1.0, 3, ","), (1.0, 1, " asked"), (1.5, 3, " asked")])
def test_a_comma_is_likelier_where_the_voice_rests(lead: float, n_rivals: int, chosen: str) -> None:
    """If it is not far behind and no token has even odds; it keeps the probability that the network gives it."""
    logits = torch.full((2, ENGLISH.n_vocab), -20.0)
    rivals = [ENGLISH.encode(text)[0] for text in (" asked", " ask", " asks")][:n_rivals]
    logits[:, rivals] = torch.tensor([9.0, 8.9, 8.9])[:n_rivals]
    logits[:, ENGLISH.encode(",")[0]] = 9.0 - lead
    expected = logits[0].log_softmax(dim=-1)

    choice = rules(ENGLISH).choose(logits, Restrictions(rests=[0]))

    assert choice.tokens == [ENGLISH.encode(chosen)[0], ENGLISH.encode(" asked")[0]]
    assert choice.logprobs[0] == pytest.approx(float(expected[choice.tokens[0]]), abs=1e-4)


def test_text_does_not_end_where_it_may_not() -> None:
    """The next best token is taken there; elsewhere the end is one choice of many."""
    logits = torch.zeros(2, ENGLISH.n_vocab)
    logits[:, ENGLISH.eot] = 9.0
    logits[:, 1000] = 5.0
    choice = rules(ENGLISH).choose(logits, Restrictions(no_eot=[1]))
    assert choice.tokens == [ENGLISH.eot, 1000]
    assert choice.logprobs[1] > -8.0


def test_network_may_be_larger_than_the_vocabulary() -> None:
    """Logits beyond the tokenizer's ids are never chosen."""
    logits = torch.zeros(1, ENGLISH.n_vocab + 8)
    logits[0, ENGLISH.n_vocab :] = 50.0
    logits[0, 1000] = 1.0
    assert DecodingRules(ENGLISH, ENGLISH.n_vocab + 8, CPU).choose(logits, Restrictions()).tokens == [1000]


def test_no_speech_is_a_probability_of_all_tokens() -> None:
    """The no-speech token competes with every other one, unfiltered."""
    logits = torch.full((2, ENGLISH.n_vocab), -100.0)
    logits[:, ENGLISH.no_speech] = 0.0
    logits[1, ENGLISH.sot] = 0.0
    assert rules(ENGLISH).no_speech(logits) == pytest.approx([1.0, 0.5])


def test_best_language_looks_at_languages_alone() -> None:
    """Neither text nor other special tokens take part in the detection."""
    logits = torch.zeros(3, MULTILINGUAL.n_vocab)
    logits[:, MULTILINGUAL.encode(" hello")[0]] = 99.0
    logits[:, MULTILINGUAL.transcribe] = 99.0
    for row, code in enumerate(["de", "ja", "en"]):
        logits[row, MULTILINGUAL.languages[code]] = 5.0
    found = rules(MULTILINGUAL).detect(logits, [(), (), ()], [None] * 3)
    assert [detected.language for detected in found] == ["de", "ja", "en"]
    others = len(MULTILINGUAL.languages) - 1
    assert found[0].prob == pytest.approx(math.exp(5) / (math.exp(5) + others))


def test_detection_chooses_from_what_is_allowed() -> None:
    """The likeliest allowed language, with its probability among those; unknown codes alone allow all."""
    logits = torch.zeros(3, MULTILINGUAL.n_vocab)
    logits[:, MULTILINGUAL.languages["de"]] = 5.0
    logits[:, MULTILINGUAL.languages["fr"]] = 3.0
    found = rules(MULTILINGUAL).detect(logits, [("fr", "en"), ("ja",), ("xx",)], [None] * 3)
    assert [detected.language for detected in found] == ["fr", "ja", "de"]
    assert [detected.prob for detected in found[:2]] == pytest.approx([math.exp(3) / (math.exp(3) + 1), 1.0])


def test_detection_keeps_the_language_before_unless_another_is_likely() -> None:
    """With its own probability; a language that is not among the choices is not kept."""
    logits = torch.zeros(3, MULTILINGUAL.n_vocab)
    logits[:, MULTILINGUAL.languages["de"]] = 1.0
    logits[1, MULTILINGUAL.languages["de"]] = 9.0
    found = rules(MULTILINGUAL).detect(logits, [("de", "en")] * 3, ["en", "en", "fr"])
    assert [detected.language for detected in found] == ["en", "de", "de"]
    assert found[0].prob == pytest.approx(1 / (1 + math.e))


@pytest.mark.parametrize(
    ("text", "grows"),
    [("ton", True), ("é", True), ("7", True), ("-", True), ("'s", True), ("...", False), (",", False),
     (" ton", False), (" ", False), ("?", False)],
)  # fmt: skip
def test_nothing_grows_a_final_word(text: str, grows: bool) -> None:
    """Where a place touches a word that is final, letters give way to the next best; marks and new words do not."""
    (token,) = ENGLISH.encode(text)
    (next_best,) = ENGLISH.encode(" next")
    logits = torch.zeros(2, ENGLISH.n_vocab)
    logits[:, token], logits[:, next_best] = 9.0, 5.0

    choice = rules(ENGLISH).choose(logits, Restrictions(attached=[0]))

    assert choice.tokens == [next_best if grows else token, token]
    assert all(-torch.inf < logprob < 0 for logprob in choice.logprobs)


def test_pieces_of_marks_may_follow_a_final_word_and_pieces_of_letters_not() -> None:
    """Characters of several tokens are told by their first byte."""
    tokens = [[bytes(ENGLISH.decode_bytes([token])) for token in range(ENGLISH.eot)].index(data)
              for data in (b"\xe2\x80", b"\xe4")]  # fmt: skip
    logits = torch.zeros(2, ENGLISH.n_vocab)
    logits[[0, 1], tokens] = 9.0

    choice = rules(ENGLISH).choose(logits, Restrictions(attached=[0, 1]))

    assert (choice.tokens[0] == tokens[0], choice.tokens[1] == tokens[1]) == (True, False)


@pytest.mark.parametrize("at", ["everywhere", "one token", "infinite"])
def test_probabilities_that_are_no_numbers_are_an_error_of_the_device(at: str) -> None:
    """Half precision overflows to infinity and on to NaN: no client ever gets such a confidence."""
    logits = torch.zeros(2, ENGLISH.n_vocab, dtype=torch.float16).float()
    logits[1, slice(None) if at == "everywhere" else 1000] = torch.inf if at == "infinite" else torch.nan
    with pytest.raises(DeviceError, match="not a number"):
        rules(ENGLISH).choose(logits, Restrictions())


def test_no_speech_is_a_number_whatever_the_network_says() -> None:
    """A window whose logits overflow is not taken for silence."""
    logits = torch.zeros(2, ENGLISH.n_vocab)
    logits[1] = torch.nan
    assert rules(ENGLISH).no_speech(logits)[1] == 0.0


@pytest.mark.parametrize("is_first", [True, False])
def test_the_likeliest_tokens_begin_with_the_choice(is_first: bool) -> None:
    """Under the same filters, in order, with the same probabilities."""
    logits = torch.randn(6, ENGLISH.n_vocab, generator=torch.Generator().manual_seed(2)) * 3
    places = [0, 3] if is_first else []
    restrictions = Restrictions(first=places, capital=places)
    choice = rules(ENGLISH).choose(logits.clone(), restrictions)
    likeliest = rules(ENGLISH).likeliest(logits.clone(), 5, restrictions)
    assert [row[0][0] for row in likeliest] == choice.tokens
    assert [row[0][1] for row in likeliest] == pytest.approx(choice.logprobs, abs=1e-5)
    for row in likeliest:
        ranks = [logprob + preference for _, logprob, preference in row]
        assert ranks == sorted(ranks, reverse=True)
        assert len({token for token, _, _ in row}) == 5


def test_likeliest_tokens_of_a_network_that_overflows_are_an_error() -> None:
    """As a choice is."""
    logits = torch.full((1, ENGLISH.n_vocab), float("nan"))
    with pytest.raises(DeviceError, match="not a number"):
        rules(ENGLISH).likeliest(logits, 2, Restrictions())
