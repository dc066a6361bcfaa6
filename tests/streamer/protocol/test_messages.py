"""Tests of streamer/protocol/messages.py."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.errors import ProtocolError
from streamer.protocol.events import Ack, Caption, TurnEnd, Word
from streamer.protocol.messages import (
    AudioFormat,
    ClientMessage,
    Draining,
    End,
    Error,
    Flush,
    Hello,
    Limits,
    Resume,
    Start,
    Started,
    Update,
    close_code,
    encode,
)
from streamer.protocol.options import SessionOptions
from streamer.protocol.projection import Projection
from streamer.protocol.state_machine import CaptionsProtocol, State, decode_client

START = '{"type":"start"}'


def protocol(*texts: str) -> CaptionsProtocol:
    """A protocol that has received these."""
    started = CaptionsProtocol(("en", "de"), max_frame_bytes=1000)
    for text in texts:
        started.receive(text)
    return started


def caption(rev: int, stable: str = "", partial: str = "", turn: int = 0) -> Caption:
    """A caption whose words take one second each."""
    texts = [(text, True) for text in stable.split()] + [(text, False) for text in partial.split()]
    words = tuple(
        Word(text=text, start_s=float(i), end_s=i + 1.0, confidence=0.5, stable=is_stable)
        for i, (text, is_stable) in enumerate(texts)
    )
    return Caption(
        turn=turn, rev=rev, stable=stable, partial=partial, start_s=0.0, end_s=float(len(texts)), words=words
    )


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
        assert start.options(SessionOptions()) == SessionOptions(language="en", keyterms=("Ray Serve",))

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
                '"update" has no field "langage"; allowed: language, keyterms, endpoint_ms',
            ),
            (
                '{"type":"start","audio":{"encoding":"opus"}}',
                "bad_value",
                '"start": audio.encoding = "opus": expected pcm_s16le, pcm_f32le, mulaw, alaw or webm_opus',
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
                lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
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
        ],
    )
    def test_what_is_illegal_closes(self, before: list[str], frame: str | bytes, code: str, message: str) -> None:
        """The error says what was expected, and the connection is over."""
        connection = protocol(*before)

        with pytest.raises(ProtocolError) as error:
            connection.receive(frame)

        assert (error.value.code, str(error.value)) == (code, message)
        assert connection.state is State.CLOSED

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


class TestEncode:
    """Messages to text frames, as the contract writes them."""

    def test_hello(self) -> None:
        """All fields of the contract."""
        hello = Hello(session="s_1", resume="r_1", model="tiny.en", limits=Limits(max_frame_bytes=1048576, idle_s=60))

        assert json.loads(encode(hello)) == {
            "type": "hello",
            "protocol": "captions.v1",
            "session": "s_1",
            "resume": "r_1",
            "model": "tiny.en",
            "limits": {"max_frame_bytes": 1048576, "idle_s": 60},
        }

    def test_started_repeats_the_effective_settings(self) -> None:
        """Defaults too, so that a client need not know them."""
        options = msgspec.structs.asdict(SessionOptions(language="en"))
        started = Started(session="s_1", resume="r_1", audio=AudioFormat(), resume_from_s=0.0, **options)

        assert json.loads(encode(started)) == {
            "type": "started",
            "session": "s_1",
            "resume": "r_1",
            "audio": {"encoding": "pcm_s16le", "rate": 16000, "channels": 1},
            "resume_from_s": 0.0,
            "language": "en",
            "task": "transcribe",
            "prompt": "",
            "keyterms": [],
            "endpoint_ms": 500,
            "delay": "low",
            "partials": True,
            "words": True,
        }

    def test_errors_leave_out_what_is_not_known(self) -> None:
        """`retry_after_s` is there only for an overload."""
        assert json.loads(encode(Error(code="idle", message="m"))) == {
            "type": "error",
            "code": "idle",
            "message": "m",
            "fatal": True,
        }
        assert json.loads(encode(Error(code="overloaded", message="m", retry_after_s=5)))["retry_after_s"] == 5

    def test_draining_and_events(self) -> None:
        """Events are encoded like the messages of the connection."""
        assert encode(Draining(deadline_s=20.0)) == '{"type":"draining","deadline_s":20.0}'
        ack = Ack(received_s=12.0, stable_s=10.4, lag_s=0.2)
        assert encode(ack) == '{"type":"ack","received_s":12.0,"stable_s":10.4,"lag_s":0.2}'


@pytest.mark.parametrize(
    ("code", "number"),
    [("bad_value", 1002), ("bad_audio", 1007), ("frame_too_large", 1009), ("internal", 1011), ("idle", 1000)],
)
def test_close_codes(code: str, number: int) -> None:
    """Errors of the client are 1002 unless WebSocket has a closer code."""
    assert close_code(code) == number


class TestProjection:
    """Events as a client asked for them."""

    def test_everything_is_passed_by_default(self) -> None:
        """The default session gets captions with partials and words."""
        event = caption(0, "so", "the")

        assert Projection(SessionOptions()).project(event) == event

    def test_rev_rises_by_one_although_captions_were_dropped(self) -> None:
        """A full queue drops captions; the client sees no gap, and each turn counts for itself."""
        projection = Projection(SessionOptions())
        captions = [caption(4, "a"), caption(7, "a b"), caption(9, "a b c"), caption(0, "x", turn=1)]

        sent = [projection.project(event) for event in captions]

        assert [event.rev for event in sent if isinstance(event, Caption)] == [4, 5, 6, 0]

    def test_without_words(self) -> None:
        """`words` is left out of captions and turns, not sent empty."""
        projection = Projection(SessionOptions(words=False))
        end = TurnEnd(turn=0, text="so", start_s=0, end_s=1, language="en", reason="end", words=())

        for event in (caption(0, "so"), end):
            sent = projection.project(event)
            assert sent is not None
            assert "words" not in json.loads(encode(sent))

    def test_without_partials(self) -> None:
        """A caption comes only when stable text was added, and holds nothing that may change."""
        projection = Projection(SessionOptions(partials=False))
        captions = [
            caption(0, "", "so"),
            caption(1, "so", "the"),
            caption(2, "so", "then"),
            caption(3, "so then"),
        ]

        sent = [projection.project(event) for event in captions]

        assert [event.stable if isinstance(event, Caption) else None for event in sent] == [
            None,
            "so",
            None,
            "so then",
        ]
        assert isinstance(sent[1], Caption)
        assert sent[1].partial == ""
        assert sent[1].words == caption(0, "so").words
        assert sent[1].end_s == 1.0
