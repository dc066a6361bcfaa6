"""Tests of streamer/dialects/vosk.py: one answer to each chunk."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.dialects.actions import Action, EndAndClose, HangUp, Open, To
from streamer.dialects.vosk import VoskProtocol
from streamer.errors import EngineError
from streamer.protocol.events import Bye, Caption, Flushed, TurnEnd, Word
from streamer.protocol.messages import AudioFormat, Flush
from streamer.protocol.options import PAUSE_MS, Keyterms, Update

BYE = Bye(reason="end", audio_s=1.0, turns=1)


def caption(stable: str, partial: str) -> Caption:
    """A caption without words."""
    return Caption(turn=0, rev=1, stable=stable, partial=partial, start_s=0.0, end_s=1.0)


def turn_end(text: str) -> TurnEnd:
    """A turn with a word every second."""
    words = tuple(Word(text=w, start_s=i, end_s=i + 1, confidence=0.5) for i, w in enumerate(text.split()))
    return TurnEnd(turn=0, text=text, start_s=0.0, end_s=9.0, language="en", reason="silence", words=words)


def answer(actions: list[Action]) -> dict[str, Any]:
    """The one text among them."""
    [text] = [action for action in actions if isinstance(action, str)]
    message: dict[str, Any] = json.loads(text)
    return message


def test_a_chunk_is_answered_at_once() -> None:
    """With what is known by then; the first one opens the session."""
    dialect = VoskProtocol()
    assert dialect.begin() == []
    opening, audio, text = dialect.receive(b"abcd")
    assert isinstance(opening, Open)
    assert opening.start.audio == AudioFormat(rate=8000)
    assert opening.endpoint_ms == PAUSE_MS
    assert (audio, text) == (To(0, b"abcd"), '{"partial":""}')
    assert dialect.project(0, caption("so", " the")) == []
    assert answer(dialect.receive(b"ab")) == {"partial": "so the"}
    assert dialect.project(0, turn_end("so the")) == []
    assert answer(dialect.receive(b"ab")) == {
        "text": "so the",
        "result": [
            {"word": "so", "start": 0, "end": 1, "conf": 0.5},
            {"word": "the", "start": 1, "end": 2, "conf": 0.5},
        ],
    }
    assert answer(dialect.receive(b"ab")) == {"partial": ""}


def test_several_turns_share_an_answer() -> None:
    """There is only one to each chunk."""
    dialect = VoskProtocol()
    dialect.receive(b"ab")
    dialect.project(0, turn_end("so"))
    dialect.project(0, turn_end("it goes"))
    assert answer(dialect.receive(b"ab"))["text"] == "so it goes"
    dialect.project(0, turn_end("今日は。"))
    dialect.project(0, turn_end("明日は。"))
    assert answer(dialect.receive(b"ab"))["text"] == "今日は。明日は。"


def test_eof_is_answered_with_the_rest() -> None:
    """The last text is said when all is heard, and nothing after it."""
    dialect = VoskProtocol()
    dialect.receive(b"ab")
    assert dialect.receive('{"eof" : 1}') == [EndAndClose()]
    assert dialect.project(0, turn_end("so")) == []
    [text] = dialect.project(0, BYE)
    assert json.loads(text)["text"] == "so"
    assert dialect.finish() == []


def test_eof_without_audio_is_answered_and_closes() -> None:
    """An empty text, and goodbye."""
    text, hangup = VoskProtocol().receive('{"eof":1}')
    assert json.loads(str(text)) == {"text": ""}
    assert hangup == HangUp(1000)


def test_reset_is_answered_with_the_final_result() -> None:
    """What was said is final, and the session goes on."""
    dialect = VoskProtocol()
    dialect.receive(b"ab")
    assert dialect.receive('{"reset":1}') == [To(None, Flush(id=1))]
    dialect.project(0, turn_end("so"))
    [text] = dialect.project(0, Flushed(id=1))
    assert json.loads(text)["text"] == "so"
    assert answer(dialect.receive(b"ab")) == {"partial": ""}


def test_config_sets_rate_words_and_phrases() -> None:
    """Rate, words, alternatives and phrases; a model that is named is not looked at."""
    dialect = VoskProtocol()
    config = {"sample_rate": 8000.0, "words": False, "phrase_list": ["zero one"], "model": "/etc/passwd"}
    assert dialect.receive(json.dumps({"config": config})) == []
    opening = dialect.receive(b"ab")[0]
    assert isinstance(opening, Open)
    assert (opening.start.audio.rate, opening.start.keyterms) == (8000, ("zero one",))
    dialect.project(0, turn_end("so"))
    assert answer(dialect.receive(b"ab")) == {"text": "so"}
    assert dialect.receive('{"config":{"phrase_list":["two"],"max_alternatives":3}}') == [
        To(None, Update(keyterms=("two",)))
    ]
    dialect.project(0, turn_end("so it"))
    assert answer(dialect.receive(b"ab")) == {"alternatives": [{"confidence": 0.5, "text": "so it"}]}


def test_wrong_messages_are_refused_with_the_reason() -> None:
    """The reason stands in the close frame: any text would be taken for a result."""
    dialect = VoskProtocol()
    for frame, reason in (
        ('{"config":{"sample_rate":100}}', "sample_rate 100: expected a number from 8000 to 48000"),
        ('{"config":{"sample_rate":"fast"}}', 'sample_rate "fast": expected'),
        ('{"config":{"sample_rate":null}}', "sample_rate null: expected"),
        ('{"config":{"max_alternatives":[]}}', "max_alternatives []: expected an integer"),
        ('{"config":{"max_alternatives":1e999}}', "Number out of range"),
        ('{"config":7}', "Expected `object`"),
        ('{"hello":1}', "expected"),
        ("}", "malformed"),
    ):
        [hangup] = dialect.receive(frame)
        assert isinstance(hangup, HangUp)
        assert reason in hangup.reason
    dialect.receive(b"ab")
    [hangup] = dialect.receive('{"config":{"sample_rate":16000}}')
    assert isinstance(hangup, HangUp)
    assert "after the first audio" in hangup.reason
    assert dialect.fail(EngineError("broken")) == []


SAMPLES = {
    "test.py": '{ "config" : { "sample_rate" : 16000 } }',
    "test_words.py": """{"config" :
                    { "phrase_list" : ["zero one two three four five", "six seven eight nine oh"],
                      "sample_rate" : 16000,
                      "words" : 0}}""",
    "test_microphone.py": '{ "config" : { "sample_rate" : 16000 } }',
    "test_alternatives.py": '{"config" : { "max_alternatives" : 20, "sample_rate" : 16000 } }',
    "texts": '{"config" : { "sample_rate" : "16000", "words" : "", "max_alternatives" : "0" } }',
    "zero": '{"config" : { "phrase_list" : ["zero one two three"], "sample_rate" : 16000.0, "words" : 0}}',
    "floats": '{"config" : { "sample_rate" : 16000.0, "words" : 1.5, "max_alternatives" : 0.0 } }',
    "grammar": '{"config" : { "sample_rate" : 16e3, "phrase_list" : ["yes", "[unk]", 7, ""], "words" : null } }',
}
"""First messages of vosk-server's own sample clients, and of others that it accepts."""


@pytest.mark.parametrize("message", SAMPLES.values(), ids=SAMPLES.keys())
def test_first_messages_of_upstream_clients_are_accepted(message: str) -> None:
    """The rate is the announced one, and the session opens with the first chunk."""
    dialect = VoskProtocol()
    assert dialect.receive(message) == []
    opening = dialect.receive(bytes(6400))[0]
    assert isinstance(opening, Open)
    assert opening.start.audio.rate == 16_000


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@given(JSON | st.integers(0, 60_000) | st.integers(8000, 48_000).map(str), JSON, JSON, JSON)
def test_values_are_converted_as_upstream_converts_them(
    rate: object, words: object, n_alternatives: object, phrases: object
) -> None:
    """`float()`, `bool()` and `int()` of any JSON value; what they refuse is refused with its name."""
    config = {"sample_rate": rate, "words": words, "max_alternatives": n_alternatives, "phrase_list": phrases}
    dialect = VoskProtocol()
    actions = dialect.receive(json.dumps({"config": config}))
    try:
        expected_rate, expected_alternatives = float(rate), int(n_alternatives)  # type: ignore[call-overload, arg-type]
        is_accepted = 8000 <= expected_rate <= 48_000
    except (TypeError, ValueError, OverflowError):
        is_accepted = False
    if not is_accepted:
        [hangup] = actions
        assert isinstance(hangup, HangUp)
        assert hangup.reason.startswith(("sample_rate", "max_alternatives"))
        return
    assert actions == []
    opening = dialect.receive(b"ab")[0]
    assert isinstance(opening, Open)
    assert opening.start.audio.rate == round(expected_rate)
    dialect.project(0, turn_end("so"))
    told = answer(dialect.receive(b"ab"))
    assert ("alternatives" in told) == (expected_alternatives > 0)
    assert ("result" in (told["alternatives"][0] if expected_alternatives > 0 else told)) == bool(words)


@given(st.lists(st.text(max_size=200), max_size=600))
def test_phrases_stay_within_the_bounds_of_key_terms(phrases: list[str]) -> None:
    """As many as fit, in order, and none that is too long."""
    dialect = VoskProtocol()
    dialect.receive(json.dumps({"config": {"phrase_list": phrases}}))
    opening = dialect.receive(b"ab")[0]
    assert isinstance(opening, Open)
    terms = msgspec.convert(opening.start.keyterms, Keyterms)
    assert list(terms) == [phrase for phrase in phrases if phrase not in ("", "[unk]") and len(phrase) <= 128][:256]


@given(st.lists(st.text() | st.binary() | st.from_regex(r'\{"(config|eof|reset)":.*\}'), max_size=10))
def test_no_frame_raises(frames: list[str | bytes]) -> None:
    """Nothing is raised, every chunk has its answer, and all bytes of sound go on, half samples too."""
    dialect, sent = VoskProtocol(), b""
    for frame in frames:
        actions = dialect.receive(frame)
        if isinstance(frame, bytes):
            answer(actions)
        sent += b"".join(a.message for a in actions if isinstance(a, To) and isinstance(a.message, bytes))
    received = b"".join(frame for frame in frames if isinstance(frame, bytes))
    assert sent == received
