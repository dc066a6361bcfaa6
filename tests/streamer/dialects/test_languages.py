"""Tests of language tags at every door: the native protocol and each dialect read them by the same table."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.dialects.actions import Open
from streamer.dialects.deepgram.request import parse_query
from streamer.dialects.openai.errors import RequestError
from streamer.dialects.openai.http import read_form
from streamer.dialects.openai.session import AudioInput, Transcription, default_settings, updated
from streamer.dialects.wyoming import WyomingProtocol
from streamer.errors import ProtocolError
from streamer.protocol.messages import Start
from streamer.protocol.options import SessionOptions, Update
from streamer.protocol.state_machine import CaptionsProtocol
from streamer.text.languages import LANGUAGES, NAMES

DEFAULTS = SessionOptions()
SOUND = {"rate": 16000, "width": 2, "channels": 1}


def native_start(tag: str) -> object:
    message = CaptionsProtocol(LANGUAGES, 10_000).receive(msgspec.json.encode(Start(language=tag)).decode())
    assert isinstance(message, Start)
    return message.language


def native_update(tag: str) -> object:
    protocol = CaptionsProtocol(LANGUAGES, 10_000)
    protocol.receive('{"type":"start"}')
    message = protocol.receive(msgspec.json.encode(Update(language=tag)).decode())
    assert isinstance(message, Update)
    return message.language


def deepgram(tag: str) -> object:
    return parse_query([("language", tag)], LANGUAGES).language


def openai_file(tag: str) -> object:
    return read_form([("language", tag)], DEFAULTS, LANGUAGES, "transcribe").options.language


def openai_realtime(tag: str) -> object:
    asked = AudioInput(transcription=Transcription(language=tag))
    return updated(default_settings(DEFAULTS), asked, DEFAULTS, LANGUAGES, "session").options.language


def wyoming(tag: str) -> object:
    protocol = WyomingProtocol("base", LANGUAGES, 10_000)
    messages = ({"type": "transcribe", "data": {"language": tag}}, {"type": "audio-start", "data": SOUND})
    actions = protocol.receive(b"".join(msgspec.json.encode(message) + b"\n" for message in messages))
    openings = [action for action in actions if isinstance(action, Open)]
    if not openings:  # told to the client as an event
        raise ProtocolError("bad_language", str(actions))
    return openings[0].start.language


doors = pytest.mark.parametrize(
    "door",
    [native_start, native_update, deepgram, openai_file, openai_realtime, wyoming],
    ids=lambda door: door.__name__,
)


@doors
@given(st.sampled_from(LANGUAGES), st.sampled_from(["", "-XX", "_Latn", "-Cyrl-XX"]))
def test_a_tag_becomes_the_code_of_the_model(door: Callable[[str], object], code: str, rest: str) -> None:
    """With region and script, in upper case, or as a name."""
    assert door(code.upper() + rest) == code
    assert door(NAMES[code].title()) == code


@doors
def test_detection_is_asked_for_by_auto(door: Callable[[str], object]) -> None:
    """Nobody has to know a model's languages."""
    assert door("auto") == "auto"


@doors
def test_an_unknown_language_names_the_nearest(door: Callable[[str], object]) -> None:
    """Before any sound is taken."""
    with pytest.raises((ProtocolError, RequestError), match=r"did you mean de \(german\)\?"):
        door("germn")
