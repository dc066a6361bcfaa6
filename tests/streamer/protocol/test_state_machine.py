"""Tests of streamer/protocol/state_machine.py."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.errors import ProtocolError
from streamer.protocol.messages import (
    AudioFormat,
    ClientMessage,
    End,
    Flush,
    Resume,
    Start,
    Update,
)
from streamer.protocol.options import SessionOptions
from streamer.protocol.state_machine import CaptionsProtocol, State, decode_client

START = '{"type":"start"}'
NAMES = st.sampled_from(
    ["", "rate", "encoding", "channels", "session", "token", "a b", '"', "\\", "\u2028", "\N{HOT BEVERAGE}"]
)
"""Of fields in objects; drawing them from all of Unicode takes a second to prepare."""


def protocol(*texts: str) -> CaptionsProtocol:
    """A protocol that has received these."""
    started = CaptionsProtocol(("en", "de"), max_frame_bytes=1000, revisers=("tiny", "base"))
    for text in texts:
        started.receive(text)
    return started


class TestDecodeClient:
    """Text frames to messages."""

    def test_start_with_everything(self) -> None:
        """Every field of the contract is read."""
        text = (
            '{"type":"start","audio":{"encoding":"pcm_s16le","rate":48000,"channels":1},"language":"en",'
            '"task":"transcribe","prompt":"","keyterms":["Ray Serve"],"endpoint_ms":500,"delay":"low",'
            '"partials":true,"words":true,"resume":{"session":"s_1","token":"r_1","stable_s":4.5,"context":"so"}}'
        )

        start = decode_client(text)

        assert isinstance(start, Start)
        assert start.audio == AudioFormat(encoding="pcm_s16le", rate=48000, channels=1)
        assert start.resume == Resume(session="s_1", token="r_1", stable_s=4.5, context="so")
        assert start.options(SessionOptions()) == SessionOptions(
            language="en", keyterms=("Ray Serve",), endpoint_ms=500
        )

    def test_options_left_out_take_the_defaults_of_the_daemon(self) -> None:
        """A bare start is complete."""
        defaults = SessionOptions(language="de", endpoint_ms=800)

        start = decode_client('{"type":"start","endpoint_ms":300}')

        assert isinstance(start, Start)
        assert start.audio == AudioFormat(encoding="pcm_s16le", rate=16000, channels=1)
        assert start.options(defaults) == SessionOptions(language="de", endpoint_ms=300)

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ('{"type":"update","language":"de"}', Update(language="de")),
            ('{"type":"update","keyterms":[]}', Update(keyterms=())),
            ('{"type":"flush","id":1}', Flush(id=1)),
            ('{"type":"end"}', End()),
        ],
    )
    def test_other_messages(self, text: str, message: ClientMessage) -> None:
        """The small messages are read, an empty list as an empty list."""
        assert decode_client(text) == message

    @pytest.mark.parametrize(
        ("text", "code", "message"),
        [
            ("{", "bad_json", "text frame is not JSON: input data was truncated"),
            ("[1]", "bad_json", "expected a JSON object: expected object, got array"),
            ('{"type":"begin"}', "unknown_type", 'type = "begin": expected start, update, flush, end'),
            ("{}", "unknown_type", "type = null: expected start, update, flush, end"),
            ('{"type":7}', "unknown_type", "type = 7: expected start, update, flush, end"),
            (
                '{"type":"update","langage":"de"}',
                "unknown_field",
                '"update" has no field "langage"; allowed: language, languages, keyterms, endpoint_ms, revise',
            ),
            (
                '{"type":"start","audio":{"encoding":"opus"}}',
                "bad_value",
                '"start": audio.encoding = "opus": expected pcm_s16le, pcm_f32le, container, opus_packets, '
                "mulaw, alaw or webm_opus",
            ),
            (
                '{"type":"start","audio":{"rate":96000}}',
                "bad_value",
                '"start": audio.rate = 96000: expected an integer from 8000 to 48000 (hertz)',
            ),
            (
                '{"type":"start","audio":{"bits":16}}',
                "bad_value",
                '"start": audio = {"bits":16}: expected an object with encoding, rate and channels',
            ),
            (
                '{"type":"start","endpoint_ms":99}',
                "bad_value",
                '"start": endpoint_ms = 99: expected an integer from 100 to 5000 (milliseconds)',
            ),
            (
                '{"type":"update","endpoint_ms":5001}',
                "bad_value",
                '"update": endpoint_ms = 5001: expected an integer from 100 to 5000 (milliseconds)',
            ),
            (
                '{"type":"start","delay":"none"}',
                "bad_value",
                '"start": delay = "none": expected minimal, low, medium or high',
            ),
            (
                '{"type":"start","keyterms":[1]}',
                "bad_value",
                '"start": keyterms = [1]: expected a list of at most 256 texts of at most 128 characters',
            ),
            ('{"type":"flush"}', "bad_value", '"flush": object missing required field id'),
            (
                '{"type":"start","prompt":1}',
                "bad_value",
                '"start": prompt = 1: expected text of at most 4096 characters',
            ),
            (
                '{"type":"start","revise":1}',
                "bad_value",
                '"start": revise = 1: expected true, false or the name of a model',
            ),
            (
                '{"type":"update","languages":"en"}',
                "bad_value",
                '"update": languages = "en": expected a list of at most 128 language codes, tags or names',
            ),
        ],
    )
    def test_errors_name_what_was_found_and_what_is_allowed(self, text: str, code: str, message: str) -> None:
        """A person can repair the message from the error."""
        with pytest.raises(ProtocolError) as error:
            decode_client(text)

        assert (error.value.code, str(error.value)) == (code, message)

    def test_unknown_field_of_start_is_named(self) -> None:
        """A misspelt option is not silently ignored."""
        with pytest.raises(ProtocolError, match='"start" has no field "endpoint"') as error:
            decode_client('{"type":"start","endpoint":300}')

        assert error.value.code == "unknown_field"

    @pytest.mark.parametrize("text", ["[" * 10**5, '{"type":' + "[" * 10**5, '{"type":"end","a":' + "{" * 10**5])
    def test_deep_nesting_is_an_error_of_the_client(self, text: str) -> None:
        """The recursion limit is the parser's problem, never an exception that escapes."""
        with pytest.raises(ProtocolError):
            decode_client(text)

    @given(st.text() | st.binary().map(lambda data: data.decode("latin-1")))
    def test_any_text_is_a_message_or_a_protocol_error(self, text: str) -> None:
        """No text makes anything else come out."""
        decode_or_refuse(text)

    @given(
        st.dictionaries(
            st.sampled_from(["type", "audio", "resume", "language", "keyterms", "endpoint_ms", "id", "words"]),
            st.recursive(
                st.none()
                | st.booleans()
                | st.integers()
                | st.floats(allow_nan=False, allow_infinity=False)
                | st.sampled_from(["start", "update", "flush", "end", "auto", "rate"]),
                lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
                max_leaves=6,
            ),
        )
    )
    def test_any_object_is_a_message_or_a_protocol_error(self, fields: dict[str, object]) -> None:
        """Nor does any JSON that resembles a message."""
        decode_or_refuse(json.dumps(fields))


def decode_or_refuse(text: str) -> None:
    """Fail unless `text` decodes, or is refused with a message of one line."""
    try:
        decode_client(text)
    except ProtocolError as error:
        refusal = error
    else:
        return
    assert refusal.code in {"bad_json", "unknown_type", "unknown_field", "bad_value"}
    assert "\n" not in str(refusal)


class TestCaptionsProtocol:
    """What is legal when."""

    def test_a_whole_connection(self) -> None:
        """Start, audio, update, flush, end."""
        connection = protocol(START)

        assert connection.receive(b"1234") == b"1234"
        assert connection.receive('{"type":"update","endpoint_ms":200}') == Update(endpoint_ms=200)
        assert connection.receive('{"type":"flush","id":3}') == Flush(id=3)
        assert connection.receive('{"type":"end"}') == End()
        assert connection.state is State.ENDING

    @pytest.mark.parametrize(
        ("before", "frame", "code", "message"),
        [
            ([], b"\0" * 900, "start_required", 'expected "start" before audio, got 900 bytes of audio'),
            ([], '{"type":"flush","id":1}', "start_required", 'expected "start" first, got "flush"'),
            ([START], START, "already_started", 'got "start" twice; "update" changes a running session'),
            (
                [START, '{"type":"end"}'],
                b"12",
                "after_end",
                'expected nothing after "end", got 2 bytes of audio',
            ),
            (
                [START, '{"type":"end"}'],
                '{"type":"end"}',
                "after_end",
                'expected nothing after "end", got "end"',
            ),
            ([START], b"\0" * 1001, "frame_too_large", "message of 1001 bytes: expected at most 1000"),
            ([START], " " * 1001, "frame_too_large", "message of 1001 bytes: expected at most 1000"),
            (
                [],
                '{"type":"start","language":"xx"}',
                "bad_value",
                'language = "xx": expected auto or one of en, de',
            ),
            (
                [START],
                '{"type":"update","language":"xx"}',
                "bad_value",
                'language = "xx": expected auto or one of en, de',
            ),
            (
                [],
                '{"type":"start","languages":["en-US","fr"]}',
                "bad_value",
                'languages = "fr": expected auto or one of en, de; this model does not know french',
            ),
            (
                [START],
                '{"type":"update","revise":"small"}',
                "bad_value",
                'revise = "small": expected true, false or a loaded model: tiny, base',
            ),
        ],
    )
    def test_what_is_illegal_closes(self, before: list[str], frame: str | bytes, code: str, message: str) -> None:
        """The error says what was expected, and the connection is over."""
        connection = protocol(*before)

        with pytest.raises(ProtocolError) as error:
            connection.receive(frame)

        assert (error.value.code, str(error.value)) == (code, message)
        assert connection.state is State.CLOSED

    @pytest.mark.parametrize(
        ("asked", "languages"),
        [
            ('["de-AT","English","deu"]', ("de", "en")),
            ('["auto","en"]', ("en",)),
            ("[]", ()),
        ],
    )
    def test_languages_are_read_as_codes(self, asked: str, languages: tuple[str, ...]) -> None:
        """Each once; `auto` among them says nothing."""
        update = protocol(START).receive(f'{{"type":"update","languages":{asked}}}')
        assert update == Update(languages=languages)

    @pytest.mark.parametrize("asked", ["true", "false", '"base"'])
    def test_a_second_pass_is_asked_for(self, asked: str) -> None:
        """Or not, or with a model that is loaded."""
        update = protocol(START).receive(f'{{"type":"update","revise":{asked}}}')
        assert isinstance(update, Update)
        assert update.revise == {"true": True, "false": False}.get(asked, "base")

    @given(st.lists(st.sampled_from([START, '{"type":"end"}', '{"type":"flush","id":1}', "x", b"", b"12"])))
    def test_only_protocol_errors_come_out(self, frames: list[str | bytes]) -> None:
        """Any order of frames is either legal or refused."""
        connection = protocol()
        for frame in frames:
            try:
                connection.receive(frame)
            except ProtocolError:
                assert connection.state is State.CLOSED


FRAMES: dict[str, str | bytes] = {
    "start": START,
    "update": '{"type":"update","endpoint_ms":200}',
    "flush": '{"type":"flush","id":1}',
    "end": '{"type":"end"}',
    "audio": bytes(100),
    "huge": bytes(1001),
    "no json": "{",
    "unknown": '{"type":"stop"}',
}
MOVES = {
    State.AWAITING_START: {"start": State.STREAMING},
    State.STREAMING: {
        "update": State.STREAMING,
        "flush": State.STREAMING,
        "audio": State.STREAMING,
        "end": State.ENDING,
    },
}
"""What may come in each state, and where it leads; everything else is a mistake."""
MISTAKES = {"huge": "frame_too_large", "no json": "bad_json", "unknown": "unknown_type"}
OUT_OF_PLACE = {State.AWAITING_START: "start_required", State.STREAMING: "already_started"}


@given(names=st.lists(st.sampled_from(sorted(FRAMES)), max_size=12))
def test_every_frame_in_every_state(names: list[str]) -> None:
    """A frame moves the connection as the table has it, or closes it with the error of its mistake."""
    connection, state = protocol(), State.AWAITING_START
    for name in names:
        after = MOVES.get(state, {}).get(name)
        if after is None:
            with pytest.raises(ProtocolError) as raised:
                connection.receive(FRAMES[name])
            assert raised.value.code == MISTAKES.get(name, OUT_OF_PLACE.get(state, "after_end"))
        else:
            connection.receive(FRAMES[name])
        state = after or State.CLOSED
        assert connection.state is state
