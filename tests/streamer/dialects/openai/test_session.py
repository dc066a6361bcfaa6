"""Tests of streamer/dialects/openai/session.py."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET

from streamer.dialects.openai.errors import RequestError
from streamer.dialects.openai.session import (
    AudioInput,
    Format,
    SemanticVad,
    ServerVad,
    SessionUpdate,
    Settings,
    Transcription,
    asked_language,
    asked_languages,
    decode,
    default_settings,
    prefix_padding_s,
    to_beta_json,
    to_json,
    updated,
)
from streamer.protocol.messages import AudioFormat
from streamer.protocol.options import SessionOptions

LANGUAGES = ("en", "de", "yue")
DEFAULTS = SessionOptions(endpoint_ms=700, prompt="house style", keyterms=("Ray",), delay="medium")


def maybe(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """A field that may be there, be null, or not be there."""
    return st.one_of(st.just(UNSET), st.none(), values)


FORMATS = st.one_of(
    st.builds(Format, type=st.just("audio/pcm"), rate=st.integers(8000, 48000)),
    st.builds(Format, type=st.sampled_from(["audio/pcmu", "audio/pcma"])),
)
TRANSCRIPTIONS = st.builds(
    Transcription,
    language=maybe(st.sampled_from(LANGUAGES)),
    languages=maybe(st.lists(st.sampled_from(LANGUAGES), max_size=3).map(tuple)),
    prompt=maybe(st.text(max_size=8)),
    keywords=maybe(st.lists(st.text(max_size=8), max_size=2).map(tuple)),
    delay=maybe(st.sampled_from(["minimal", "low", "medium", "high", "xhigh"])),
)
DETECTIONS = st.one_of(
    st.builds(
        ServerVad,
        prefix_padding_ms=st.none() | st.integers(0, 10_000),
        silence_duration_ms=st.none() | st.integers(0, 60_000),
    ),
    st.builds(SemanticVad, eagerness=st.none() | st.sampled_from(["low", "medium", "high", "auto"])),
)
INPUTS = st.builds(
    AudioInput, format=maybe(FORMATS), transcription=maybe(TRANSCRIPTIONS), turn_detection=maybe(DETECTIONS)
)


def after(*inputs: AudioInput) -> Settings:
    """What is in force after these updates."""
    settings = default_settings(DEFAULTS)
    for asked in inputs:
        settings = updated(settings, asked, DEFAULTS, LANGUAGES, "session")
    return settings


@given(st.lists(INPUTS, max_size=3))
def test_what_a_client_is_shown_it_may_send_back(inputs: list[AudioInput]) -> None:
    """Clients store a session and set it again: it is taken as it was shown, and nothing is different after it."""
    shown = to_json(after(*inputs), "sess_1", "tiny.en")
    again = after(decode(msgspec.json.encode(shown), SessionUpdate).input())

    assert to_json(again, "sess_1", "tiny.en") == shown
    assert again.start() == after(*inputs).start()


@given(INPUTS)
def test_the_beta_form_says_the_same(asked: AudioInput) -> None:
    """But for the rate, which it does not know: 24 kHz, or 8 kHz for G.711."""
    settings = after(asked)
    shown = to_beta_json(settings, "sess_1", "tiny.en")
    again = after(decode(msgspec.json.encode(shown), SessionUpdate).input())

    assert again.options == settings.options
    assert again.audio.encoding == settings.audio.encoding
    assert again.audio.rate == (24000 if settings.audio.encoding == "pcm_s16le" else 8000)


@pytest.mark.parametrize(
    "session",
    [
        {"input_audio_format": "g711_ulaw", "turn_detection": None, "input_audio_transcription": {"language": "de"}},
        {
            "input_audio_format": {"type": "audio/pcmu"},
            "turn_detection": None,
            "audio": {"input": {"transcription": {"language": "de"}}},
        },
        {
            "type": "transcription",
            "audio": {"input": {"format": "audio/pcmu", "turn_detection": None, "transcription": {"language": "de"}}},
        },
        {
            "audio": {"input": {"format": {"type": "audio/pcmu", "rate": 8000.0}, "turn_detection": None}},
            "input_audio_transcription": {"language": "de"},
        },
    ],
)
def test_the_forms_may_be_mixed(session: dict[str, object]) -> None:
    """As clients do that were written for one and moved to the other; what is said in the present form counts."""
    settings = after(decode(msgspec.json.encode(session), SessionUpdate).input())
    assert settings.audio == AudioFormat(encoding="mulaw", rate=8000)
    assert settings.options.language == "de"
    assert settings.turn_detection is None
    both = session | {"audio": {"input": {"format": {"rate": "16000"}}}}
    assert after(decode(msgspec.json.encode(both), SessionUpdate).input()).audio == AudioFormat(rate=16_000)


@given(INPUTS, INPUTS)
def test_an_update_said_twice_is_said_once(first: AudioInput, second: AudioInput) -> None:
    """Clients that are not sure repeat themselves."""
    assert after(first, second, second) == after(first, second)


@given(INPUTS)
def test_whatever_is_asked_the_native_session_takes(asked: AudioInput) -> None:
    """Numbers that the native protocol does not allow are moved into its range."""
    start = after(asked).start()

    assert msgspec.convert(msgspec.to_builtins(start), type(start)) == start
    assert 0 <= prefix_padding_s(after(asked)) <= 10


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        ("de", "de"),
        (" German ", "de"),
        ("de-CH", "de"),
        ("zh_TW", None),
        ("zh_yue", "yue"),
        ("cantonese", "yue"),
        ("", "auto"),
    ],
)
def test_languages_by_code_and_by_name(asked: str, code: str | None) -> None:
    """Regions are read over; a language that the model does not know is told with those it does."""
    if code is None:
        with pytest.raises(RequestError, match=r'session\.language = "zh_TW": expected auto or one of en, de, yue'):
            asked_language(asked, LANGUAGES, "session.language")
    else:
        assert asked_language(asked, LANGUAGES, "session.language") == code


@pytest.mark.parametrize(
    ("asked", "options"),
    [
        (("de",), ("de", ())),
        (("German", "en-GB", "de"), ("auto", ("de", "en"))),
        (("de", "xx"), ("de", ())),
        (("de", "auto"), ("de", ())),
        (("auto",), ("auto", ())),
    ],
)
def test_several_languages_are_a_choice_for_detection(
    asked: tuple[str, ...], options: tuple[str, tuple[str, ...]]
) -> None:
    """Of those that the model knows; one alone needs no detection."""
    assert asked_languages(asked, LANGUAGES, "session.languages") == options


def test_languages_that_the_model_does_not_know_at_all_are_told() -> None:
    """By the first of them."""
    with pytest.raises(RequestError, match=r'session\.languages = "xx": expected auto or one of en, de, yue'):
        asked_languages(("xx", "zz"), LANGUAGES, "session.languages")


@pytest.mark.parametrize(
    ("text", "param", "message"),
    [
        ('{"audio":{"input":{"format":{"type":"audio/mp3"}}}}', "session.audio.input.format.type", "audio/pcmu or"),
        ('{"audio":{"input":{"format":{"rate":1}}}}', "session.audio.input.format.rate", ">= 8000"),
        (
            '{"audio":{"input":{"turn_detection":{"type":"magic"}}}}',
            "session.audio.input.turn_detection.type",
            "server_vad or semantic_vad",
        ),
        ('{"audio":3}', "session.audio", "expected object"),
    ],
)
def test_a_wrong_field_is_named_with_what_it_takes(text: str, param: str, message: str) -> None:
    """By its whole path, as a client wrote it."""
    with pytest.raises(RequestError, match=message) as error:
        decode(text, SessionUpdate, "session")

    assert error.value.param == param
