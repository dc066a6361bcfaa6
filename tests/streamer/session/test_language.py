"""Tests of streamer/session/language.py: which language a turn is believed to be in, and when."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from streamer.protocol.options import SessionOptions
from streamer.session.language import KEPT, MAX_VOICE_S, MIN_VOICE_S, SURE, TurnLanguage
from streamer.step import StepRequest
from tests.helpers.words import result

AUTO = SessionOptions(language="auto")


def hear(language: TurnLanguage, found: str, prob: float, voiced_s: float) -> None:
    """A step that detects a language."""
    request = StepRequest(session="s", log_mel=torch.empty(2, 0), language=language.of_step(voiced_s, may_end=False))
    answer = replace(result(language=request.language or found), language_prob=1.0 if request.language else prob)
    language.apply(request, answer, voiced_s)


def test_a_language_that_was_asked_for_is_sure() -> None:
    """Nothing is detected."""
    language = TurnLanguage(SessionOptions(language="de"), is_multilingual=True)
    assert (language.is_sure, language.may_change, language.of_step(0.1, may_end=False)) == (True, False, "de")


def test_an_english_model_detects_nothing() -> None:
    """Its language is English from the first step on."""
    language = TurnLanguage(AUTO, is_multilingual=False)
    assert (language.is_sure, language.of_step(0.1, may_end=False)) == (True, "en")


def test_a_choice_of_one_is_no_choice() -> None:
    """One language in `languages` is as good as asking for it."""
    language = TurnLanguage(SessionOptions(languages=("fr",)), is_multilingual=True)
    assert (language.is_sure, language.of_step(0.1, may_end=False)) == (True, "fr")


@pytest.mark.parametrize(
    ("prob", "voiced_s", "is_sure"),
    [
        (0.99, MIN_VOICE_S - 0.1, False),
        (SURE, MIN_VOICE_S, True),
        (SURE - 0.01, MAX_VOICE_S - 0.1, False),
        (0.2, MAX_VOICE_S, True),
    ],
)
def test_little_sound_tells_little(prob: float, voiced_s: float, is_sure: bool) -> None:
    """In the first turn a language needs sound and probability, or much sound."""
    language = TurnLanguage(AUTO, is_multilingual=True)
    hear(language, "de", prob, voiced_s)
    assert language.is_sure is is_sure
    assert language.of_step(voiced_s, may_end=False) == ("de" if is_sure else None)


def test_the_next_turn_may_be_in_another_language() -> None:
    """After a turn in German, German text is shown at once; every language is sure as in the first turn."""
    language = TurnLanguage(AUTO, is_multilingual=True)
    hear(language, "de", 0.9, 2.0)
    language.end_turn()
    assert not language.is_sure
    hear(language, "en", 0.9, 0.3)
    assert (language.is_sure, language.may_show) == (False, False)
    hear(language, "de", KEPT, 0.4)
    assert (language.is_sure, language.may_show) == (False, True)
    hear(language, "en", SURE, MIN_VOICE_S)
    assert (language.is_sure, language.may_show, language.spoken) == (True, True, "en")
    language.end_turn()
    hear(language, "en", KEPT - 0.01, 0.4)
    assert not language.may_show


def test_a_short_turn_ends_in_the_language_before() -> None:
    """A turn that may end after little voice is decoded in the language of the turn before, if it is still allowed."""
    language = TurnLanguage(AUTO, is_multilingual=True)
    assert language.of_step(0.3, may_end=True) is None
    hear(language, "de", 0.9, 2.0)
    language.end_turn()
    assert language.of_step(0.3, may_end=True) == "de"
    assert language.of_step(MIN_VOICE_S, may_end=True) is None
    language.ask(SessionOptions(languages=("en", "fr")))
    assert language.of_step(0.3, may_end=True) is None


def test_other_options_leave_the_language_alone() -> None:
    """An update of key terms does not make a turn unsure; one of the languages may."""
    language = TurnLanguage(AUTO, is_multilingual=True)
    hear(language, "de", 0.9, 2.0)
    language.ask(SessionOptions(keyterms=("Ray",)))
    assert language.of_step(2.0, may_end=False) == "de"
    language.ask(SessionOptions(languages=("de", "en")))
    assert language.of_step(2.0, may_end=False) == "de"
    language.ask(SessionOptions(languages=("en", "fr")))
    assert not language.is_sure


@given(st.lists(st.tuples(st.sampled_from(["de", "en"]), st.floats(0.2, 1.0), st.floats(0.0, 6.0)), min_size=1))
def test_a_sure_turn_stays_in_its_language(steps: list[tuple[str, float, float]]) -> None:
    """Whatever later steps of a turn would find."""
    language = TurnLanguage(AUTO, is_multilingual=True)
    sure: str | None = None
    for found, prob, voiced_s in steps:
        hear(language, found, prob, voiced_s)
        assert language.spoken == (sure or found)
        if language.is_sure:
            sure = language.spoken
    assert language.is_sure == any(
        voiced_s >= MAX_VOICE_S or (prob >= SURE and voiced_s >= MIN_VOICE_S) for _, prob, voiced_s in steps
    )


def test_the_language_before_is_kept_while_there_is_little_voice() -> None:
    """Then detection is free; a language that is no longer allowed is not kept."""
    language = TurnLanguage(AUTO, is_multilingual=True)
    assert language.before(0.5) is None
    hear(language, "de", 0.9, 2.0)
    language.end_turn()
    assert (language.before(0.5), language.before(MAX_VOICE_S)) == ("de", None)
    hear(language, "de", KEPT, MIN_VOICE_S)
    assert language.is_sure
    language.ask(SessionOptions(languages=("en", "fr")))
    assert language.before(0.5) is None
