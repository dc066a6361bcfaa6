"""Tests of streamer.dialects.openai.realtime: events in, events out."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.dialects.actions import HangUp
from streamer.dialects.openai.realtime import MAX_ERRORS, Output, RealtimeProtocol, ServerEvent
from streamer.dialects.openai.session import default_settings
from streamer.errors import EngineError
from streamer.protocol.events import Ack, Bye, Caption, Event, Flushed, Speech, TurnEnd, TurnEndReason, Word
from streamer.protocol.messages import AudioFormat, End, Flush, Start
from streamer.protocol.options import SessionOptions, Update
from tests.helpers.openai_events import problems

DELTA = "conversation.item.input_audio_transcription.delta"
PARTIAL = "conversation.item.input_audio_transcription.partial"
COMPLETED = "conversation.item.input_audio_transcription.completed"
FAILED = "conversation.item.input_audio_transcription.failed"
HALF_SECOND = base64.b64encode(bytes(24000)).decode()
"""In the default format, 24 kHz PCM16."""


def protocol(*, is_beta: bool = False) -> RealtimeProtocol:
    defaults = SessionOptions()
    settings = default_settings(defaults)
    return RealtimeProtocol("sess_1", "tiny", ("en", "de"), settings, defaults, is_beta=is_beta)


def send(server: RealtimeProtocol, type_: str, **fields: object) -> list[Output]:
    return server.receive(json.dumps({"type": type_, **fields}))


def update(server: RealtimeProtocol, **given: object) -> list[Output]:
    return send(server, "session.update", session={"type": "transcription", "audio": {"input": given}})


def append(server: RealtimeProtocol, seconds: float = 0.5) -> list[Output]:
    return [output for _ in range(round(seconds / 0.5)) for output in _append(server)]


def _append(server: RealtimeProtocol) -> list[Output]:
    return send(server, "input_audio_buffer.append", audio=HALF_SECOND)


def project(server: RealtimeProtocol, *events: Event) -> list[ServerEvent]:
    return [sent for event in events for sent in server.project(event)]


def caption(stable: str, partial: str = "", turn: int = 0, start_s: float = 0.5) -> Caption:
    return Caption(turn=turn, rev=0, stable=stable, partial=partial, start_s=start_s, end_s=start_s + 1)


def turn_end(text: str, turn: int = 0, reason: TurnEndReason = "silence") -> TurnEnd:
    words = tuple(Word(text=word, start_s=0.5, end_s=0.9, confidence=0.9) for word in text.split())
    return TurnEnd(turn=turn, text=text, start_s=0.5, end_s=1.2, language="en", reason=reason, words=words)


def started(at_s: float = 0.9) -> Speech:
    return Speech(state="started", at_s=at_s)


def stopped(at_s: float = 1.2) -> Speech:
    return Speech(state="stopped", at_s=at_s)


def types(events: Sequence[Output] | Sequence[ServerEvent]) -> list[Any]:
    return [event["type"] if isinstance(event, dict) else type(event).__name__ for event in events]


def only(events: Sequence[Output] | Sequence[ServerEvent], type_: str) -> list[dict[str, Any]]:
    return [event for event in events if isinstance(event, dict) and event["type"] == type_]


def input_of(events: Sequence[Output]) -> dict[str, Any]:
    [event] = only(events, "session.updated")
    shown: dict[str, Any] = event["session"]["audio"]["input"]
    return shown


class TestSettings:
    """What a client may set, and what it is told to be in force."""

    def test_the_first_event_shows_the_defaults(self) -> None:
        """`session.created` in the present form."""
        [event] = protocol().open()
        assert isinstance(event, dict)
        assert problems(event) == []
        assert event["session"] == {
            "type": "transcription",
            "id": "sess_1",
            "object": "realtime.transcription_session",
            "audio": {
                "input": {
                    "format": {"type": "audio/pcm", "rate": 24000},
                    "transcription": {
                        "model": "tiny",
                        "language": None,
                        "languages": [],
                        "prompt": "",
                        "keywords": [],
                        "delay": "low",
                    },
                    "noise_reduction": None,
                    "turn_detection": {
                        "type": "server_vad",
                        "threshold": 0.5,
                        "prefix_padding_ms": 300,
                        "silence_duration_ms": 500,
                    },
                }
            },
            "include": None,
        }

    def test_updates_are_partial_and_null_clears(self) -> None:
        """Only the fields that are there change, also within `transcription`."""
        server = protocol()
        update(server, transcription={"model": "whisper-1", "language": "de", "prompt": "Ray", "keywords": ["Ray"]})
        shown = input_of(update(server, transcription={"delay": "xhigh"}, format={"type": "audio/pcmu"}))
        assert shown["transcription"] == {
            "model": "tiny",
            "language": "de",
            "languages": [],
            "prompt": "Ray",
            "keywords": ["Ray"],
            "delay": "high",
        }
        assert shown["format"] == {"type": "audio/pcmu", "rate": 8000}
        shown = input_of(update(server, transcription=None, format=None, turn_detection=None))
        assert shown["transcription"] == {
            "model": "tiny",
            "language": None,
            "languages": [],
            "prompt": "",
            "keywords": [],
            "delay": "low",
        }
        assert shown["format"] == {"type": "audio/pcm", "rate": 24000}
        assert shown["turn_detection"] is None

    @pytest.mark.parametrize(
        ("given", "start"),
        [
            ({"format": {"type": "audio/pcm", "rate": 16000}}, {"audio": AudioFormat(rate=16000)}),
            ({"format": {"type": "audio/pcma"}}, {"audio": AudioFormat(encoding="alaw", rate=8000)}),
            ({"transcription": {"language": "de-AT"}}, {"language": "de"}),
            ({"transcription": {"language": "German"}}, {"language": "de"}),
            ({"transcription": {"language": ""}}, {"language": "auto"}),
            ({"transcription": {"languages": ["de"]}}, {"language": "de"}),
            ({"transcription": {"languages": ["en", "xx"]}}, {"language": "en"}),
            ({"transcription": {"languages": ["en", "German"]}}, {"language": "auto", "languages": ("en", "de")}),
            ({"transcription": {"keywords": []}}, {"keyterms": ()}),
            ({"turn_detection": {"type": "server_vad", "silence_duration_ms": 20}}, {"endpoint_ms": 100}),
            ({"turn_detection": {"type": "server_vad", "create_response": False}}, {"endpoint_ms": 500}),
            ({"turn_detection": {"type": "semantic_vad", "eagerness": "high"}}, {"endpoint_ms": 400}),
        ],
    )  # fmt: skip
    def test_settings_reach_the_native_session(self, given: dict[str, object], start: dict[str, object]) -> None:
        """The first audio starts a native session with what was asked for."""
        server = protocol()
        update(server, **given)
        first, _ = append(server)
        assert isinstance(first, Start)
        assert {name: getattr(first, name) for name in start} == start

    @pytest.mark.parametrize(
        ("given", "param", "message"),
        [
            ({"format": {"type": "audio/mp3"}}, "session.audio.input.format.type",
             "session.audio.input.format.type: invalid enum value 'audio/mp3', "
             "expected audio/pcm, audio/pcmu or audio/pcma"),
            ({"format": {"type": "audio/pcm", "rate": 4000}}, "session.audio.input.format.rate",
             "session.audio.input.format.rate: expected int >= 8000"),
            ({"transcription": {"language": "xx"}}, "session.audio.input.transcription.language",
             'session.audio.input.transcription.language = "xx": expected auto or one of en, de'),
            ({"turn_detection": {"type": "client_vad"}}, "session.audio.input.turn_detection.type",
             "session.audio.input.turn_detection.type: invalid value 'client_vad', "
             "expected server_vad or semantic_vad"),
        ],
    )  # fmt: skip
    def test_what_cannot_be_is_an_error_and_changes_nothing(
        self, given: dict[str, object], param: str, message: str
    ) -> None:
        """The error names the field and the client's event."""
        server = protocol()
        before = server.settings
        session = {"type": "transcription", "audio": {"input": given}}
        [event] = send(server, "session.update", event_id="c1", session=session)
        assert isinstance(event, dict)
        assert event["error"] == {
            "type": "invalid_request_error",
            "code": "invalid_value",
            "message": message,
            "param": param,
            "event_id": "c1",
        }
        assert server.settings == before

    @pytest.mark.parametrize("is_beta", [False, True])
    def test_logprobs_come_with_deltas_and_transcripts_where_asked_for(self, is_beta: bool) -> None:
        """`include` is answered, and its tokens join to the text; null takes them away again."""
        server, include = protocol(is_beta=is_beta), "item.input_audio_transcription.logprobs"
        [answer] = send(server, "session.update", session={"include": [include, "other"]})
        assert isinstance(answer, dict)
        assert answer["session"]["include"] == [include]
        append(server)
        sent = json.loads(msgspec.json.encode(project(server, turn_end("so it goes"), stopped())))
        assert [problem for event in sent for problem in problems(event)] == []
        [delta], [completed] = only(sent, DELTA), only(sent, COMPLETED)
        assert "".join(token["token"] for token in delta["logprobs"]) == delta["delta"]
        assert "".join(token["token"] for token in completed["logprobs"]) == completed["transcript"] == "so it goes"
        [answer] = only(send(server, "session.update", session={"include": None}), answer["type"])
        assert answer["session"]["include"] is None
        assert only(project(server, turn_end("so", turn=1), stopped()), COMPLETED)[0]["logprobs"] is None

    def test_a_long_prompt_loses_its_beginning(self) -> None:
        """Nothing is refused for its length: the model reads the end."""
        server = protocol()
        update(server, transcription={"prompt": "x" * 5000 + "y"})
        [start, _] = append(server)
        assert isinstance(start, Start)
        assert start.prompt == "x" * 4095 + "y"

    def test_conversations_are_not_served(self) -> None:
        """Whoever wants answers to speech is told at once."""
        [event] = send(protocol(), "session.update", session={"type": "realtime"})
        assert isinstance(event, dict)
        assert event["error"]["message"] == 'session.type = "realtime": only "transcription" is served here'  # type: ignore[index]

    def test_the_beta_form_is_understood_and_answered(self) -> None:
        """By its event type alone: flat settings in and out, and `conversation.item.created`."""
        server = protocol()
        outputs = send(
            server,
            "transcription_session.update",
            session={
                "input_audio_format": "g711_ulaw",
                "input_audio_transcription": {"model": "whisper-1", "language": "en"},
                "turn_detection": None,
            },
        )
        [event] = only(outputs, "transcription_session.updated")
        assert event["session"]["input_audio_format"] == "g711_ulaw"
        assert event["session"]["turn_detection"] is None
        assert "conversation.item.created" in types(send(server, "input_audio_buffer.commit"))
        assert types(protocol(is_beta=True).open()) == ["transcription_session.created"]


class TestReconfiguration:
    """Settings that change while audio flows."""

    def test_what_a_native_session_can_change_it_changes(self) -> None:
        """Language, key terms and endpoint go to the running session."""
        server = protocol()
        append(server)
        outputs = update(server, transcription={"language": "de", "keywords": ["Ray"]})
        assert outputs[0] == Update(language="de", languages=(), keyterms=("Ray",), endpoint_ms=500)

    @pytest.mark.parametrize(
        "given", [{"format": {"type": "audio/pcm", "rate": 8000}}, {"transcription": {"prompt": "Ray"}}]
    )
    def test_what_it_cannot_change_takes_a_new_one(self, given: dict[str, object]) -> None:
        """The running session ends, its last words are completed, and the next audio starts another."""
        server = protocol()
        append(server, 1.5)
        project(server, started(), caption("so"))
        assert update(server, **given)[0] == End()
        said = project(server, turn_end("so it goes", reason="end"), stopped())
        assert only(said, COMPLETED)[0]["transcript"] == "so it goes"
        assert project(server, Bye(reason="end", audio_s=1.5, turns=1)) == []
        assert types(append(server)) == ["Start", "bytes"]

    def test_a_commit_between_two_native_sessions_waits_for_the_first(self) -> None:
        """The item is completed when the session that heard it has said all."""
        server = protocol()
        update(server, turn_detection=None)
        append(server, 1.0)
        update(server, format={"type": "audio/pcma"})
        committed = send(server, "input_audio_buffer.commit")
        assert "Flush" not in types(committed)
        said = project(server, turn_end("first half", reason="end"), stopped(), Bye(reason="end", audio_s=1, turns=1))
        [completed] = only(said, COMPLETED)
        assert (completed["transcript"], completed["item_id"]) == ("first half", committed[0]["item_id"])  # type: ignore[index]

    def test_a_silent_client_loses_its_place_only(self) -> None:
        """The native session ends; the next audio starts another, and the item goes on."""
        server = protocol()
        update(server, turn_detection=None)
        append(server)
        assert server.rest() == [End()]
        assert server.rest() == []
        project(server, turn_end("one", reason="end"), stopped(), Bye(reason="end", audio_s=0.5, turns=1))
        assert types(append(server)) == ["Start", "bytes"]
        send(server, "input_audio_buffer.commit")
        said = project(server, turn_end("two", reason="flush"), Flushed(id=1))
        assert only(said, COMPLETED)[0]["transcript"] == "one two"

    def test_an_unchanged_session_is_left_alone(self) -> None:
        """Clients repeat their settings; that disturbs nothing."""
        server = protocol()
        append(server)
        assert types(update(server, transcription={"model": "other"})) == ["session.updated"]


class TestServerVad:
    """The server says where an utterance begins and ends."""

    def test_life_of_a_turn(self) -> None:
        """Started, deltas, stopped, committed, item, completed: in this order, under one item id."""
        server = protocol()
        append(server, 3.0)
        said = project(
            server,
            started(0.9),
            caption("", " so"),
            caption("so", " the first"),
            Ack(received_s=1.0, stable_s=0.5, lag_s=0.1),
            caption("so the first", ""),
            turn_end("so the first thing"),
            stopped(1.2),
        )
        assert types(said) == [
            "input_audio_buffer.speech_started",
            PARTIAL,
            DELTA,
            PARTIAL,
            DELTA,
            PARTIAL,
            DELTA,
            "input_audio_buffer.speech_stopped",
            "input_audio_buffer.committed",
            "conversation.item.added",
            "conversation.item.done",
            COMPLETED,
        ]
        assert [event["delta"] for event in only(said, DELTA)] == ["so", " the first", " thing"]
        assert [event["partial"] for event in only(said, PARTIAL)] == [" so", " the first", ""]
        assert said[0]["audio_start_ms"] == 600  # 0.3 s before the voice
        assert said[7]["audio_end_ms"] == 1700  # with the silence that ended it
        [completed] = only(said, COMPLETED)
        assert completed["transcript"] == "so the first thing"
        assert completed["usage"] == {"type": "duration", "seconds": 1.1}
        assert completed["languages"] == [{"code": "en"}]
        assert [word["word"] for word in completed["words"]] == ["so", "the", "first", "thing"]
        ids = {event["item_id"] for event in said if "item_id" in event}
        assert len(ids) == 1
        assert all(problems(event) == [] for event in said if event["type"] != PARTIAL)

    def test_items_are_chained(self) -> None:
        """Each names the one before it."""
        server = protocol()
        append(server, 3.0)
        said = project(
            server, started(), turn_end("one"), stopped(), started(2.0), turn_end("two", turn=1), stopped(2.5)
        )
        first, second = only(said, "input_audio_buffer.committed")
        assert first["previous_item_id"] is None
        assert second["previous_item_id"] == first["item_id"]

    def test_speech_without_words_is_completed_empty(self) -> None:
        """A cough has a beginning and an end, and says nothing."""
        server = protocol()
        append(server, 3.0)
        said = project(server, started(), stopped())
        assert only(said, COMPLETED)[0]["transcript"] == ""

    def test_a_turn_cut_for_its_length_goes_on_in_another_item(self) -> None:
        """The next item begins with the next words."""
        server = protocol()
        append(server, 3.0)
        said = project(
            server, started(), turn_end("one.", reason="limit"), caption("two", turn=1), turn_end("two"), stopped()
        )
        assert [event["transcript"] for event in only(said, COMPLETED)] == ["one.", "two"]
        assert len(only(said, "input_audio_buffer.speech_started")) == 2
        assert len(only(said, "input_audio_buffer.speech_stopped")) == 2

    def test_text_that_is_put_differently_at_the_end_is_told_by_the_transcript(self) -> None:
        """Deltas cannot take anything back."""
        server = protocol()
        append(server, 3.0)
        said = project(server, started(), caption("so the"), turn_end("So the first."), stopped())
        assert [event["delta"] for event in only(said, DELTA)] == ["so the"]
        assert only(said, COMPLETED)[0]["transcript"] == "So the first."


class TestManualTurns:
    """`turn_detection: null`: the client commits."""

    def test_deltas_come_before_the_commit(self) -> None:
        """Under the item id that the commit names; native turns are joined, their pauses are not told."""
        server = protocol()
        update(server, turn_detection=None)
        append(server, 2.0)
        said = project(
            server, started(), caption("one"), turn_end("one"), stopped(), started(1.5), caption("two", turn=1)
        )
        assert types(said) == [DELTA, DELTA]
        assert [event["delta"] for event in said] == ["one", " two"]
        committed = send(server, "input_audio_buffer.commit")
        assert types(committed) == [
            "input_audio_buffer.committed",
            "conversation.item.added",
            "conversation.item.done",
            "Flush",
        ]
        rest = project(server, turn_end("two three", turn=1, reason="flush"), stopped(), Flushed(id=1))
        assert types(rest) == [DELTA, COMPLETED]
        assert rest[-1]["transcript"] == "one two three"
        assert rest[-1]["usage"] == {"type": "duration", "seconds": 2.0}
        assert {event["item_id"] for event in [*said, *rest]} == {committed[0]["item_id"]}  # type: ignore[index]

    def test_two_commits_in_a_row_are_two_items(self) -> None:
        """Text goes to the oldest one that is not complete."""
        server = protocol()
        update(server, turn_detection=None)
        append(server)
        send(server, "input_audio_buffer.commit")
        append(server)
        send(server, "input_audio_buffer.commit")
        said = project(server, turn_end("one", reason="flush"), Flushed(id=1))
        said += project(server, turn_end("two", turn=1, reason="flush"), Flushed(id=2))
        assert [event["transcript"] for event in only(said, COMPLETED)] == ["one", "two"]

    def test_an_empty_commit_is_an_empty_transcript(self) -> None:
        """OpenAI answers with an error, which makes clients give up their session."""
        outputs = send(protocol(), "input_audio_buffer.commit")
        assert types(outputs)[0] == "input_audio_buffer.committed"
        assert only(outputs, COMPLETED)[0]["transcript"] == ""

    def test_cleared_audio_is_never_transcribed(self) -> None:
        """What was sent before `clear` and not committed is dropped, also what the engine says of it later."""
        server = protocol()
        update(server, turn_detection=None)
        append(server)
        assert types(send(server, "input_audio_buffer.clear")) == ["input_audio_buffer.cleared", "Flush"]
        append(server)
        assert project(server, caption("gone"), turn_end("gone", reason="flush"), Flushed(id=1)) == []
        assert only(project(server, caption("kept")), DELTA)[0]["delta"] == "kept"

    def test_commit_and_clear_end_the_speech_that_was_told_to_have_begun(self) -> None:
        """Also with turn detection."""
        for type_ in ("input_audio_buffer.commit", "input_audio_buffer.clear"):
            server = protocol()
            append(server)
            project(server, started(0.1))
            assert types(send(server, type_))[0] == "input_audio_buffer.speech_stopped"


class TestTrouble:
    """What goes wrong is said, and not raised."""

    @pytest.mark.parametrize(
        ("frame", "code", "message"),
        [
            (b"\0\0", "invalid_value", "a binary message: audio goes into input_audio_buffer.append as base64"),
            ("{", "invalid_json", "not JSON: input data was truncated"),
            ('{"a":' + "[" * 100_000, "invalid_json", None),
            ("[]", "invalid_value", "expected object, got array"),
            ('"\ud800"', "invalid_json", None),
            ("{}", "missing_required_parameter", "object missing required field type"),
            ('{"type":"response.create"}', "invalid_value", None),
            ('{"type":"input_audio_buffer.append"}', "missing_required_parameter", None),
            ('{"type":"input_audio_buffer.append","audio":"=="}', "invalid_value", None),
            ('{"type":"session.update"}', "missing_required_parameter", None),
            ('{"type":"session.update","session":null}', "invalid_value", "session: expected object, got null"),
            ("x" * (1 << 20) + "x", "event_too_large",
             "event of 1048577 bytes: expected at most 1048576; append audio in several events"),
        ],
    )  # fmt: skip
    def test_wrong_events_are_answered(self, frame: str | bytes, code: str, message: str | None) -> None:
        """The session goes on."""
        server = protocol()
        [event] = server.receive(frame)
        assert isinstance(event, dict)
        assert event["error"]["code"] == code  # type: ignore[index]
        if message is not None:
            assert event["error"]["message"] == message  # type: ignore[index]
        assert problems(event) == []
        assert types(append(server)) == ["Start", "bytes"]

    def test_endless_rubbish_is_cut_off(self) -> None:
        """A client that says nothing but wrong events is hung up on; a right one between starts the count anew."""
        server = protocol()
        for _ in range(MAX_ERRORS - 1):
            server.receive("{")
        append(server)
        outputs = [output for _ in range(MAX_ERRORS) for output in server.receive("{")]
        assert outputs[-1] == HangUp(1008)
        assert len(outputs) == MAX_ERRORS + 1

    def test_a_lost_session_fails_every_open_item(self) -> None:
        """Clients keep what is complete and know what is not."""
        server = protocol()
        update(server, turn_detection=None)
        append(server)
        send(server, "input_audio_buffer.commit")
        append(server)
        said = server.fail(EngineError("no device"))
        assert types(said) == [FAILED, "error"]
        project(server, caption("second"))
        assert types(server.fail(EngineError("no device"))) == [FAILED, "error"]
        assert all(problems(event) == [] for event in said)

    def test_a_session_that_ends_by_itself_completes_what_was_heard(self) -> None:
        """The daemon stops: nothing that was said is lost."""
        server = protocol()
        update(server, turn_detection=None)
        append(server)
        said = project(server, turn_end("last words", reason="end"), stopped(), Bye(reason="end", audio_s=1, turns=1))
        assert only(said, COMPLETED)[0]["transcript"] == "last words"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 60000) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
names = st.sampled_from(["format", "transcription", "turn_detection", "type", "rate", "language", "delay", "eagerness"])
values = json_values | st.sampled_from(
    ["server_vad", "semantic_vad", "audio/pcm", "audio/pcma", "en", "low", "high", 8000]
)
inputs = st.dictionaries(names, values | st.dictionaries(names, values, max_size=3), max_size=3)
client_events = st.one_of(
    st.binary(max_size=5),
    st.text(max_size=10),
    json_values.map(json.dumps),
    st.sampled_from([HALF_SECOND, "AAA=", "AAAA", ""]).map(
        lambda audio: json.dumps({"type": "input_audio_buffer.append", "audio": audio})
    ),
    st.sampled_from(["commit", "clear"]).map(lambda verb: json.dumps({"type": f"input_audio_buffer.{verb}"})),
    inputs.map(lambda given: json.dumps({"type": "session.update", "session": {"audio": {"input": given}}})),
    inputs.map(lambda given: json.dumps({"type": "transcription_session.update", "session": given})),
)
words = st.sampled_from(["", "so", "so the", "So the first", "elsewhere"])
native_events = st.one_of(
    st.builds(started, st.floats(0, 9)),
    st.builds(stopped, st.floats(0, 9)),
    st.builds(caption, words, words, st.integers(0, 2)),
    st.builds(turn_end, words, st.integers(0, 2), st.sampled_from(["silence", "flush", "limit", "end"])),
    st.builds(lambda id_: Flushed(id=id_), st.integers(0, 3)),
    st.just(Bye(reason="end", audio_s=1.0, turns=1)),
    st.just(Ack(received_s=1.0, stable_s=1.0, lag_s=0.0)),
)


@given(st.lists(client_events | native_events, max_size=25), st.booleans())
def test_any_sequence_of_events_is_answered_with_valid_events(inputs: list[Event | str | bytes], is_beta: bool) -> None:
    """Whatever comes, nothing is raised: each server event is as OpenAI's own types have it, ids are never used twice,
    an item is completed at most once, never before it is committed, and its deltas come before that."""
    server = protocol(is_beta=is_beta)
    sent = [event for event in server.open() if isinstance(event, dict)]
    for given_ in inputs:
        outputs = server.project(given_) if isinstance(given_, Event) else server.receive(given_)
        sent += [output for output in outputs if isinstance(output, dict)]

    assert [problem for event in sent for problem in problems(event)] == []
    assert len({event["event_id"] for event in sent}) == len(sent)
    committed = [event["item_id"] for event in only(sent, "input_audio_buffer.committed")]
    completed = [event["item_id"] for event in only(sent, COMPLETED)]
    assert len(set(committed)) == len(committed)
    assert len(set(completed)) == len(completed)
    assert completed == [item for item in committed if item in completed], "completed out of order"
    done: set[object] = set()
    for event in sent:
        assert not (event["type"] == DELTA and event["item_id"] in done)
        if event["type"] == COMPLETED:
            assert event["item_id"] in committed
            done.add(event["item_id"])


def test_the_native_session_hears_messages_in_a_legal_order() -> None:
    """Start comes first, nothing but Start follows End, and only then audio."""
    server = protocol()
    outputs = [*append(server), *update(server, transcription={"prompt": "Ray"}), *append(server)]
    native = [type(output) for output in outputs if not isinstance(output, dict)]
    assert native == [Start, bytes, End, Start, bytes]
    assert [type(o) for o in send(server, "input_audio_buffer.commit") if not isinstance(o, dict)] == [Flush]
