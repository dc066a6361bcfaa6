"""Tests of streamer.dialects.openai.http."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs
from openai.types.audio import (
    Transcription,
    TranscriptionTextDeltaEvent,
    TranscriptionTextDoneEvent,
    TranscriptionVerbose,
)

from streamer.dialects.openai.errors import RequestError
from streamer.dialects.openai.http import (
    MAX_WARNING_LETTERS,
    Asked,
    TranscriptEvents,
    body,
    error_body,
    read_form,
    warning_headers,
)
from streamer.errors import AudioFormatError, EngineError
from streamer.protocol.events import Ack, Caption, TurnEnd, Word
from streamer.protocol.options import SessionOptions, Task


def ask(*fields: tuple[str, str], task: Task = "transcribe") -> Asked:
    return read_form(fields, SessionOptions(prompt="as configured"), ("en", "de"), task)


def turn(text: str, number: int = 0, start_s: float = 1.0) -> TurnEnd:
    words = tuple(
        Word(text=word, start_s=start_s + i, end_s=start_s + i + 0.5, confidence=0.5)
        for i, word in enumerate(text.split())
    )
    end_s = start_s + len(words)
    return TurnEnd(
        turn=number, text=text, start_s=start_s, end_s=end_s, language="en", reason="silence", words=words
    )  # fmt: skip


TURNS = [turn("One two. Three"), turn("Four.", 1, 9.0)]


class TestForm:
    """What the fields of a request ask for."""

    def test_an_empty_form_takes_the_defaults(self) -> None:
        """Nothing but a file: JSON, and what the operator has set."""
        asked = ask()
        assert asked == Asked(
            response_format="json",
            granularities=("segment",),
            is_streamed=False,
            options=SessionOptions(prompt="as configured"),
        )

    def test_every_field_is_read(self) -> None:
        """Lists come with brackets from OpenAI's clients and without from curl."""
        asked = ask(
            ("model", "whisper-1"),
            ("language", "german"),
            ("prompt", "Ray Serve"),
            ("response_format", "verbose_json"),
            ("temperature", "0.2"),
            ("stream", "true"),
            ("timestamp_granularities[]", "word"),
            ("timestamp_granularities", "segment"),
            ("keywords[]", "Anyscale"),
            ("keywords[]", "Ray"),
            ("chunking_strategy[type]", "server_vad"),
            ("include[]", "logprobs"),
            task="translate",
        )
        assert asked.options == SessionOptions(
            language="de", task="translate", prompt="Ray Serve", keyterms=("Anyscale", "Ray")
        )
        assert (asked.response_format, asked.granularities, asked.is_streamed) == (
            "verbose_json", ("word", "segment"), True,
        )  # fmt: skip

    def test_several_languages_are_a_choice_for_detection(self) -> None:
        """As live; `language` says more, and an empty text nothing."""
        several = ("languages[]", "en"), ("languages[]", "German")
        options = ask(*several).options
        assert (options.language, options.languages) == ("auto", ("en", "de"))
        assert ask(("language", "de"), *several).options.language == "de"
        assert ask(("languages[]", "")).options == ask().options

    @given(st.text(max_size=20), st.integers(0, 6000))
    def test_a_long_prompt_loses_its_beginning(self, end: str, n: int) -> None:
        """As OpenAI's models read the last tokens of a prompt: nothing is refused for its length."""
        prompt = ask(("prompt", "x" * n + end)).options.prompt
        assert prompt == (("x" * n + end)[-4096:] or "as configured")

    @pytest.mark.parametrize("format_", ["text", "srt", "vtt", "verbose_json"])
    def test_logprobs_are_refused_where_they_cannot_be_shown(self, format_: str) -> None:
        """In a format without a place for them; a stream is JSON whatever the format."""
        with pytest.raises(RequestError, match="expected response_format = json or stream = true") as raised:
            ask(("response_format", format_), ("include[]", "logprobs"))
        assert raised.value.param == "include"
        assert ask(("response_format", format_), ("stream", "true"), ("include", "logprobs")).has_logprobs

    @pytest.mark.parametrize(
        ("name", "text", "message"),
        [
            ("include[]", "speakers", "include = 1 entries: expected logprobs"),
            ("response_format", "xml", 'response_format = "xml": expected json, text, srt, vtt or verbose_json'),
            ("temperature", "hot", 'temperature = "hot": expected a number from 0 to 1'),
            ("temperature", "2", 'temperature = "2": expected a number from 0 to 1'),
            ("stream", "maybe", 'stream = "maybe": expected true or false'),
            ("keywords[]", "x" * 129, "keywords = 1 entries: expected at most 256 of at most 128 characters"),
            ("language", "xx", 'language = "xx": expected auto or one of en, de'),
            ("timestamp_granularities[]", "letter", 'timestamp_granularities = "letter": expected word or segment'),
        ],
    )
    def test_wrong_fields_are_named(self, name: str, text: str, message: str) -> None:
        """With what was found and what is allowed."""
        with pytest.raises(RequestError) as raised:
            ask((name, text))
        assert str(raised.value) == message
        assert raised.value.param == name.removesuffix("[]")


class TestBodies:
    """One transcript in each format."""

    @pytest.mark.parametrize(
        ("response_format", "content", "media_type"),
        [
            ("json", b'{"text":"One two. Three Four.","usage":{"type":"duration","seconds":11}}', "application/json"),
            ("text", b"One two. Three Four.\n", "text/plain"),
        ],
    )
    def test_each_format_has_its_content_and_type(self, response_format: str, content: bytes, media_type: str) -> None:
        """All turns, joined; seconds are begun ones."""
        assert body(ask(("response_format", response_format)), TURNS, 10.2) == (content, media_type)

    def test_subtitles_hold_every_turn(self) -> None:
        """As the command line writes them."""
        srt, vtt = (body(ask(("response_format", name)), TURNS, 10.0) for name in ("srt", "vtt"))
        assert srt.content.startswith(b"1\n00:00:01,000 --> ")
        assert vtt.content.startswith(b"WEBVTT\n\n00:00:01.000 --> ")
        assert vtt.media_type == "text/vtt"

    def test_verbose_json_has_segments_and_words(self) -> None:
        """Valid by OpenAI's own type; a segment is a sentence, or what a turn has left of one."""
        asked = ask(("response_format", "verbose_json"), ("timestamp_granularities[]", "word"),
                    ("timestamp_granularities[]", "segment"))  # fmt: skip
        document = json.loads(body(asked, TURNS, 10.0).content)
        verbose = TranscriptionVerbose.model_validate(document)
        assert (verbose.language, verbose.duration, verbose.text) == ("english", 10.0, "One two. Three Four.")
        assert document["task"] == "transcribe"
        assert [(s.text, s.start, s.end) for s in verbose.segments or []] == [
            (" One two.", 1.0, 2.5), (" Three", 3.0, 3.5), (" Four.", 9.0, 9.5),
        ]  # fmt: skip
        assert (verbose.segments or [])[0].avg_logprob == pytest.approx(-0.693, abs=1e-3)
        assert [(w.word, w.start, w.end) for w in verbose.words or []][:2] == [("One", 1.0, 1.5), ("two.", 2.0, 2.5)]

    def test_segments_have_the_spaces_of_the_text(self) -> None:
        """None in scripts that put none between words; a mark in front belongs to its sentence."""
        said = "「今日は晴れ。明日も"
        words = tuple(
            Word(text=word, start_s=1.0 + i, end_s=2.0 + i, confidence=0.5)
            for i, word in enumerate(["今日", "は", "晴れ。", "明日", "も"])
        )
        spoken = structs.replace(turn(said), language="ja", words=words)
        document = json.loads(body(ask(("response_format", "verbose_json")), [spoken], 6.0).content)
        assert [(s["text"], s["start"], s["end"]) for s in document["segments"]] == [
            ("「今日は晴れ。", 1.0, 4.0), ("明日も", 4.0, 6.0),
        ]  # fmt: skip

    def test_turns_of_scripts_without_spaces_are_joined_without(self) -> None:
        """In the text, in its segments and in its deltas alike, as Whisper writes them."""
        turns = [turn("今日は晴れ。"), turn("明日も", 1, 9.0)]
        whole = "今日は晴れ。明日も"
        document = json.loads(body(ask(("response_format", "verbose_json")), turns, 12.0).content)
        assert document["text"] == "".join(segment["text"] for segment in document["segments"]) == whole
        events = TranscriptEvents()
        assert "".join(read(events.project(turn))["delta"] for turn in turns) == read(events.done())["text"] == whole

    @pytest.mark.parametrize(
        ("asked", "there", "absent"), [("word", "words", "segments"), ("segment", "segments", "words")]
    )
    def test_only_the_times_asked_for_are_there(self, asked: str, there: str, absent: str) -> None:
        """Words are many."""
        form = ask(("response_format", "verbose_json"), ("timestamp_granularities[]", asked))
        document = json.loads(body(form, TURNS, 10.0).content)
        assert there in document
        assert absent not in document

    def test_silence_has_no_segments(self) -> None:
        """Nothing was said: every format is valid and empty."""
        form = ask(("response_format", "verbose_json"))
        assert TranscriptionVerbose.model_validate_json(body(form, [], 3.0).content).segments == []
        assert body(ask(("response_format", "text")), [], 3.0).content == b"\n"

    def test_logprobs_are_shown_where_asked_for(self) -> None:
        """Of OpenAI's own type; joined, the tokens are the text."""
        document = body(ask(("include[]", "logprobs")), TURNS, 10.0).content
        transcription = Transcription.model_validate_json(document)
        assert "".join(token.token or "" for token in transcription.logprobs or []) == transcription.text
        assert {token.logprob for token in transcription.logprobs or []} == {math.log(0.5)}
        assert Transcription.model_validate_json(body(ask(), TURNS, 10.0).content).logprobs is None

    @pytest.mark.parametrize(
        "warning", ["a\r\nSet-Cookie: b", "lost at \u2026", "x" * 70_000, "word " * 20_000, "\0\x7f"]
    )
    def test_warnings_fit_into_a_header(self, warning: str) -> None:
        """Printable ASCII of a bounded length, whatever a decoder says; none without warnings."""
        told = warning_headers([warning, "and more"])["Streamer-Warnings"]
        assert told.isascii()
        assert told.isprintable()
        assert 0 < len(told) <= MAX_WARNING_LETTERS
        assert warning_headers([]) == {}


class TestStream:
    """Server-sent events."""

    def test_logprobs_come_with_each_delta_and_the_whole_where_asked_for(self) -> None:
        """Of OpenAI's own types; joined, the tokens are the text that they come with."""
        events = TranscriptEvents(has_logprobs=True)
        *deltas, done = map(read, [*map(events.project, TURNS), events.done()])
        for delta in map(TranscriptionTextDeltaEvent.model_validate, deltas):
            assert "".join(token.token or "" for token in delta.logprobs or []) == delta.delta
        whole = TranscriptionTextDoneEvent.model_validate(done)
        assert "".join(token.token or "" for token in whole.logprobs or []) == whole.text

    def test_deltas_add_up_to_the_whole(self) -> None:
        """The deltas add up to the text of the last event."""
        events = TranscriptEvents()
        said = [
            events.project(Caption(turn=0, rev=0, stable="One", partial=" two", start_s=1.0, end_s=2.0)),
            events.project(Ack(received_s=1.0, stable_s=1.0, lag_s=0.0)),
            *map(events.project, TURNS),
            events.done(),
        ]
        documents = [read(event) for event in said if event]
        deltas = [TranscriptionTextDeltaEvent.model_validate(document).delta for document in documents[:-1]]
        assert deltas == ["One", " two. Three", " Four."]
        done = TranscriptionTextDoneEvent.model_validate(documents[-1])
        assert done.text == "".join(deltas)

    def test_a_failure_on_the_way_is_the_last_event(self) -> None:
        """The status was sent long ago: the error is an event."""
        document = read(TranscriptEvents().failed(EngineError("no device")))
        assert document["error"]["message"] == "no device"


def test_errors_have_openais_shape() -> None:
    """Type, code, message and the field to blame."""
    assert json.loads(error_body(AudioFormatError("clip.m4a: damaged"))) == {
        "error": {
            "type": "invalid_request_error",
            "code": "invalid_audio",
            "message": "clip.m4a: damaged",
            "param": "file",
        }
    }


def read(event: bytes) -> dict[str, Any]:
    assert event.startswith(b"data: ")
    assert event.endswith(b"\n\n")
    document: dict[str, Any] = json.loads(event[6:])
    return document
