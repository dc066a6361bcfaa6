"""Tests of streamer/dialects/deepgram/request.py: what a query asks for."""

from __future__ import annotations

import contextlib
from urllib.parse import parse_qsl

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.dialects.deepgram.request import (
    ENCODINGS,
    REFUSED,
    WITHOUT_EFFECT,
    ListenRequest,
    answered_subprotocol,
    parse_query,
    shown_key,
)
from streamer.errors import ProtocolError
from streamer.protocol.messages import AudioFormat

LANGUAGES = ("en", "de")
RAW = "encoding=linear16&sample_rate=16000"


def parsed(query: str) -> ListenRequest:
    """A query string."""
    return parse_query(parse_qsl(query, keep_blank_values=True), LANGUAGES)


def test_every_parameter_is_read() -> None:
    """What Deepgram's own clients send; what has no meaning here is ignored."""
    request = parsed(
        "model=nova-3&encoding=linear32&sample_rate=48000&channels=2&multichannel=True&language=en-US"
        "&interim_results=true&endpointing=300&utterance_end_ms=1000&vad_events=true&smart_format=true&punctuate=true"
        "&keyterm=Ray%20Serve&keyterm=Anyscale&keywords=Kubernetes:2&keywords=re:Invent&tag=x&no_such_thing=1&redact=false"
    )
    assert request == ListenRequest(
        audio=AudioFormat(encoding="pcm_f32le", rate=48000, channels=2),
        is_multichannel=True,
        language="en",
        keyterms=("Ray Serve", "Anyscale", "Kubernetes", "re:Invent"),
        endpoint_ms=300,
        interim_results=True,
        utterance_end_ms=1000,
        vad_events=True,
    )


def test_an_empty_query_takes_the_defaults() -> None:
    """Those of Deepgram where it has them, the daemon's for language and endpoint."""
    request = parsed(RAW)
    assert (request.language, request.endpoint_ms, request.marks_endpoints) == (None, None, True)
    assert (request.interim_results, request.vad_events, request.utterance_end_ms) == (False, False, None)


@pytest.mark.parametrize(
    ("query", "endpoint_ms", "marks"),
    [
        ("endpointing=10", 100, True),
        ("endpointing=9000", 5000, True),
        ("endpointing=true", None, True),
        ("endpointing=false", 5000, False),
        ("endpointing=False&utterance_end_ms=1200", 1200, False),
    ],
)
def test_endpointing_becomes_a_bounded_endpoint(query: str, endpoint_ms: int | None, marks: bool) -> None:
    """Bounded to what turns can do; without it a turn still ends where an utterance does."""
    request = parsed(f"{RAW}&{query}")
    assert (request.endpoint_ms, request.marks_endpoints) == (endpoint_ms, marks)


def test_languages_become_whisper_codes() -> None:
    """Regions are dropped, several languages are detected."""
    assert parsed(f"{RAW}&language=de-CH").language == "de"
    assert parsed(f"{RAW}&language=multi").language == "auto"
    assert parsed(f"{RAW}&detect_language=true").language == "auto"


def test_hints_are_what_detection_chooses_from() -> None:
    """Each language of the model once; the first tag that names none of them is warned of."""
    hints = "language_hint=de-AT&language_hint=German&language_hint=EN"
    request = parsed(f"{RAW}&language=multi&{hints}")
    assert (request.languages, request.tells_languages, request.warnings) == (("de", "en"), True, ())
    request = parsed(f"{RAW}&detect_language=true&language_hint=fr&language_hint=de")
    assert (request.languages, request.tells_languages) == (("de",), False)
    assert [warning.message for warning in request.warnings] == [
        "language_hint=fr has no effect here: expected auto or one of en, de; this model does not know french"
    ]


def test_a_hint_beside_a_language_is_warned_of() -> None:
    """The language is the one asked for; the daemon's default may be detected."""
    request = parsed(f"{RAW}&language=de-CH&language_hint=en")
    assert (request.language, request.languages) == ("de", ())
    assert [warning.message for warning in request.warnings] == [
        "language_hint=en has no effect here: language=de is not detected"
    ]
    assert parsed(f"{RAW}&language_hint=en").languages == ("en",)


def test_encodings_become_native_formats() -> None:
    """Telephone audio has its rate; without an encoding the audio says so itself."""
    assert parsed("encoding=mulaw").audio == AudioFormat(encoding="mulaw", rate=8000)
    assert parsed("model=nova-3&sample_rate=16000").audio is None
    assert parsed("encoding=opus&sample_rate=48000&channels=2").audio == AudioFormat(encoding="opus_packets")
    assert parsed("encoding=ogg-opus").audio == parsed("encoding=flac").audio == AudioFormat(encoding="container")


@given(
    st.sampled_from(["true", "True", "TRUE", "1", "yes", "on"]),
    st.sampled_from(["false", "FALSE", "0", "no", "off", ""]),
)
def test_flags_are_read_as_languages_write_them(on: str, off: str) -> None:
    """In any case, and as numbers."""
    for name in ("interim_results", "vad_events", "detect_language"):
        assert parsed(f"{RAW}&{name}={on}") == parsed(f"{RAW}&{name}=true") != parsed(RAW)
        assert parsed(f"{RAW}&{name}={off}") == parsed(RAW)


def test_whole_numbers_may_have_a_point() -> None:
    """As the rate of a sound card in Python."""
    assert parsed("encoding=linear16&sample_rate=44100.0&channels=2.0").audio == AudioFormat(rate=44100, channels=2)
    assert parsed(f"{RAW}&endpointing=300.0&utterance_end_ms=1000.") == parsed(
        f"{RAW}&endpointing=300&utterance_end_ms=1000"
    )


@pytest.mark.parametrize(
    ("query", "message"),
    [
        (f"{RAW}&endpointing=300.5", "endpointing=300.5: expected an integer"),
        (f"{RAW}&endpointing=.", "endpointing=.: expected an integer"),
        ("encoding=g729", "encoding=g729: expected one of linear16, linear32, mulaw, alaw, opus"),
        ("encoding=linear16", "sample_rate=: raw audio needs it: an integer from 8000 to 48000"),
        (f"{RAW}&channels=99", "channels=99: expected an integer from 1 to 8"),
        ("encoding=linear16&sample_rate=4000", "sample_rate=4000: expected an integer from 8000 to 48000"),
        (f"{RAW}&interim_results=maybe", "interim_results=maybe: expected true or false"),
        (f"{RAW}&endpointing=soon", "endpointing=soon: expected an integer"),
        (f"{RAW}&utterance_end_ms=-1", "utterance_end_ms=-1: expected an integer"),
        (f"{RAW}&language=xx", "language=xx: expected auto or one of en, de"),
        (f"{RAW}&callback=http://example.org", "callback=http://example.org: not supported here"),
        (f"{RAW}&redact=pci", "redact=pci: not supported here"),
        (f"{RAW}&redact=pci&redact=false", "redact=pci: not supported here"),
        (f"{RAW}&replace=monica:Monika", "replace=monica:Monika: not supported here"),
        (f"{RAW}&profanity_filter=True", "profanity_filter=True: not supported here"),
        (f"{RAW}&search=latency", "search=latency: not supported here"),
    ],
)
def test_wrong_values_are_refused_by_name(query: str, message: str) -> None:
    """The parameter, what was found, and what is allowed."""
    with pytest.raises(ProtocolError) as refused:
        parsed(query)
    assert message in str(refused.value)


@given(st.sampled_from([*REFUSED, *WITHOUT_EFFECT]), st.sampled_from(["", "false", "False", "0", "no"]))
def test_a_missing_feature_that_is_off_changes_nothing(name: str, off: str) -> None:
    """Clients send every parameter that they know; one that asks for nothing is neither refused nor warned of."""
    assert parsed(f"{RAW}&{name}={off}") == parsed(RAW)


@given(
    st.lists(st.sampled_from(list(WITHOUT_EFFECT)), min_size=1, unique=True), st.sampled_from(["true", "True", "v1"])
)
def test_a_parameter_without_effect_is_warned_of_by_name(names: list[str], value: str) -> None:
    """Each has its warning, and the request is otherwise the same."""
    request = parsed("&".join([RAW, *(f"{name}={value}" for name in names)]))
    assert {warning.parameter for warning in request.warnings} == set(names)
    assert all(warning.parameter in warning.message for warning in request.warnings)
    assert msgspec.structs.replace(request, warnings=()) == parsed(RAW)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(
                ["encoding", "sample_rate", "channels", "endpointing", "language", "keywords", "x", "redact"]
            ),
            st.text() | st.sampled_from([*ENCODINGS, "16000", "²", "1e9", "-0"]),
        )
    )
)
def test_any_query_is_read_or_refused(query: list[tuple[str, str]]) -> None:
    """It is understood or refused, and nothing else happens."""
    with contextlib.suppress(ProtocolError):
        request = parse_query(query, LANGUAGES)
        assert request.audio is None or 8000 <= request.audio.rate <= 48000


def test_keys_are_found_in_headers_and_subprotocols() -> None:
    """From a header, or from what a page offers; the answer names no key."""
    assert shown_key({"authorization": "Token abc"}) == "abc"
    assert shown_key({"authorization": "bearer abc"}) == "abc"
    assert shown_key({"authorization": "Basic abc"}) is None
    offered = ["token", "abc", "x-deepgram-session-id", "1"]
    assert shown_key({}, offered) == "abc"
    assert answered_subprotocol(offered) == "token"
    assert shown_key({}, ["token"]) is None
    assert answered_subprotocol(["other"]) is None
