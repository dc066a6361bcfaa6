"""Tests of streamer/dialects/wyoming.py: bytes in, what Home Assistant reads out."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.dialects.actions import Action, EndAndClose, HangUp, Open, To
from streamer.dialects.wyoming import MAX_LINE_BYTES, FrameReader, WyomingMessage, WyomingProtocol, encode
from streamer.errors import OverloadError, ProtocolError
from streamer.protocol.events import Bye, Caption, Event, Speech, TurnEnd
from streamer.protocol.messages import AudioFormat
from streamer.protocol.options import SessionOptions

SOUND = {"rate": 16000, "width": 2, "channels": 1}


def protocol() -> WyomingProtocol:
    """A new connection."""
    return WyomingProtocol("tiny.en", ("en", "de"), 1000)


def written(kind: str, data: dict[str, Any] | None = None, payload: bytes = b"") -> bytes:
    """A message as the library writes it."""
    header: dict[str, Any] = {"type": kind, "version": "1.7.1"}
    body = json.dumps(data, ensure_ascii=False).encode() if data else b""
    if body:
        header["data_length"] = len(body)
    if payload:
        header["payload_length"] = len(payload)
    return json.dumps(header).encode() + b"\n" + body + payload


def read(texts: list[str] | list[Action]) -> list[tuple[str, dict[str, Any]]]:
    """Type and data of what is sent."""
    sent = "".join(text for text in texts if isinstance(text, str)).encode()
    return [(message.type, message.data) for message in FrameReader(0).receive(sent)]


def caption(stable: str, partial: str = "") -> Caption:
    """A caption."""
    return Caption(turn=0, rev=1, stable=stable, partial=partial, start_s=0.0, end_s=1.0)


def turn_end(text: str) -> TurnEnd:
    """A turn."""
    return TurnEnd(turn=0, text=text, start_s=0.0, end_s=1.0, language="en", reason="silence")


class TestFrames:
    """A stream of bytes, cut anywhere."""

    @given(
        st.lists(st.tuples(st.text(), st.dictionaries(st.text(), st.text()), st.binary(max_size=50)), max_size=5),
        st.lists(st.integers(1, 100)),
    )
    def test_messages_are_read_however_they_are_cut(
        self, sent: list[tuple[str, dict[str, str], bytes]], sizes: list[int]
    ) -> None:
        """The messages are the same."""
        data = b"".join(written(*message) for message in sent)
        frames, received = FrameReader(1000), []
        for size in sizes:
            received += frames.receive(data[:size])
            data = data[size:]
        received += frames.receive(data)
        assert received == [WyomingMessage(kind, fields, payload) for kind, fields, payload in sent]

    def test_empty_lines_between_messages_are_passed_over(self) -> None:
        """Also those of clients that end lines with two characters."""
        data = b'\n{"type":"a","payload_length":2}\r\n\nx\r\n\n{"type":"b"}\n'
        assert FrameReader(9).receive(data) == [WyomingMessage("a", {}, b"\nx"), WyomingMessage("b")]

    def test_data_may_stand_in_the_header_line(self) -> None:
        """Older writers put it there; both are merged."""
        assert FrameReader(0).receive(b'{"type":"a","data":{"b":1},"data_length":7}\n{"c":2}') == [
            WyomingMessage("a", {"b": 1, "c": 2})
        ]

    @pytest.mark.parametrize(
        ("data", "message"),
        [
            (b"GET / HTTP/1.1\r\n\r\n", "not a message of the Wyoming protocol"),
            (b'{"type":"a","payload_length":1001}\n', "a payload of 1001 bytes: expected at most 1000"),
            (b'{"type":"a","payload_length":-1}\n', "a payload of -1 bytes"),
            (b'{"type":"a","data_length":131073}\n', "data of 131073 bytes: expected at most 131072"),
            (b"x" * (MAX_LINE_BYTES + 1), "a header of 65537 bytes"),
            (b'{"type":"a","data_length":2}\n[]', "not a message of the Wyoming protocol"),
        ],
    )
    def test_wrong_frames_are_refused_with_the_reason(self, data: bytes, message: str) -> None:
        """Before anything of that size is kept."""
        with pytest.raises(ProtocolError, match=message):
            FrameReader(1000).receive(data)


class TestUtterance:
    """Sound in, text out."""

    @pytest.mark.parametrize(
        "messages",
        [
            [written("audio-start")],
            [b'{"type":"audio-start","data":null}\n'],
            [written("audio-start", {"rate": 16000.0, "width": 2.0, "channels": 1.0})],
            [written("audio-chunk"), written("audio-start", {"rate": "16000"})],
        ],
    )
    def test_what_a_client_leaves_out_is_as_home_assistant_has_it(self, messages: list[bytes]) -> None:
        """A chunk without sound does not begin the utterance; a number may be written in any way."""
        dialect = protocol()
        [opening, *_] = [action for message in messages for action in dialect.receive(message)]
        assert isinstance(opening, Open)
        assert opening.start.audio == AudioFormat(rate=16_000)
        assert dialect.receive(written("audio-chunk", {}, b"abc")) == [To(0, b"abc")]

    def test_a_whole_utterance(self) -> None:
        """The options open the session, stable text streams, the whole follows."""
        dialect = protocol()
        assert dialect.begin() == []
        asked = {
            "language": "de-CH",
            "transcript_names": ["Küche"],
            "transcript_terms": ["Licht"],
            "name": "/etc/passwd",
        }
        assert dialect.receive(written("transcribe", asked)) == []
        opening, started = dialect.receive(written("audio-start", SOUND))
        assert isinstance(opening, Open)
        assert opening.start.audio == AudioFormat()
        assert (opening.start.language, opening.start.keyterms) == ("de", ("Küche", "Licht"))
        assert read([started]) == [("transcript-start", {"language": "de-CH"})]
        assert dialect.receive(written("audio-chunk", SOUND, b"ab")) == [To(0, b"ab")]
        assert dialect.receive(written("audio-stop")) == [EndAndClose()]
        events: list[Event] = [
            Speech(state="started", at_s=0.25),
            caption("so", " the"),
            caption("so the"),
            turn_end("so the first."),
            Speech(state="stopped", at_s=2.0),
            caption("thing"),
            turn_end("thing"),
            Bye(reason="end", audio_s=3.0, turns=2),
        ]
        told = read([text for event in events for text in dialect.project(0, event)] + dialect.finish())
        chunks = [data["text"] for kind, data in told if kind == "transcript-chunk"]
        assert chunks == ["so", " the", " first.", " thing"]
        assert [(kind, data) for kind, data in told if kind != "transcript-chunk"] == [
            ("voice-started", {"timestamp": 250}),
            ("voice-stopped", {"timestamp": 2000}),
            ("transcript", {"text": "so the first. thing", "language": "en"}),
            ("transcript-stop", {}),
        ]

    def test_a_house_of_thousands_of_names_opens_a_session(self) -> None:
        """More names than a session takes are cut, however many there are."""
        dialect = protocol()
        names = [f"Leselampe im Gästezimmer {n}" for n in range(3000)]
        assert dialect.receive(written("transcribe", {"transcript_names": names})) == []
        opening, _ = dialect.receive(written("audio-start", SOUND))
        assert isinstance(opening, Open)
        assert isinstance(opening.start.keyterms, tuple)
        assert opening.start.keyterms == tuple(names[: len(opening.start.keyterms)]) != ()

    def test_chunks_without_audio_start_open_the_session(self) -> None:
        """`audio-start` may be missing."""
        opening, _, sound = protocol().receive(written("audio-chunk", {**SOUND, "channels": 2}, b"abcd"))
        assert isinstance(opening, Open)
        assert opening.start.audio.channels == 2
        assert sound == To(0, b"abcd")

    def test_a_client_that_asks_for_no_language_gets_that_of_the_daemon(self) -> None:
        """Without `transcribe`, as with one that names no language."""
        for asked in (b"", written("transcribe"), written("transcribe", {"language": None})):
            opening, *_ = protocol().receive(asked + written("audio-start", SOUND))
            assert isinstance(opening, Open)
            assert opening.start.options(SessionOptions(language="de")).language == "de"

    def test_an_utterance_without_audio_is_answered_empty(self) -> None:
        """The text is empty, and the connection closes."""
        *texts, hangup = protocol().receive(written("audio-stop"))
        assert [kind for kind, _ in read(texts)] == ["transcript-start", "transcript", "transcript-stop"]
        assert hangup == HangUp(1000)

    def test_messages_after_the_end_are_ignored(self) -> None:
        """A second utterance needs a second connection; the first one's text is not hurt by it."""
        dialect = protocol()
        dialect.receive(written("audio-start", SOUND) + written("audio-stop"))
        assert dialect.receive(written("audio-start", SOUND) + written("audio-chunk", SOUND, b"ab")) == []

    @pytest.mark.parametrize(
        ("message", "code"),
        [
            (written("transcribe", {"language": "xx"}), "bad_language"),
            (written("audio-start", {**SOUND, "width": 4}), "bad_audio"),
            (written("audio-start", {**SOUND, "rate": 4000}), "bad_audio"),
            (written("audio-start", {"rate": "fast"}), "bad_value"),
            (written("audio-start", SOUND) * 2, "already_started"),
            (b"hello\n", "bad_json"),
        ],
    )
    def test_wrong_messages_are_told_and_close(self, message: bytes, code: str) -> None:
        """Each has its code, and the connection closes."""
        *_, told, hangup = protocol().receive(message)
        [(kind, data)] = read([told])
        assert (kind, data["code"]) == ("error", code)
        assert data["text"]
        assert isinstance(hangup, HangUp)

    def test_an_overload_is_told_with_its_code(self) -> None:
        """The daemon's own errors have codes too."""
        [(kind, data)] = read(protocol().fail(OverloadError("full", 5.0)))
        assert (kind, data) == ("error", {"text": "full", "code": "overloaded"})

    @given(st.lists(st.binary() | st.sampled_from([written("audio-start", SOUND), b'{"type":"ping"}\n']), max_size=8))
    def test_no_bytes_raise(self, blocks: list[bytes]) -> None:
        """Nothing is raised."""
        dialect = protocol()
        for block in blocks:
            dialect.receive(block)


class TestQuestions:
    """Answered at any time."""

    def test_describe_is_answered_with_the_model(self) -> None:
        """What Home Assistant asks first."""
        [(kind, data)] = read(protocol().receive(b'{"type":"describe"}\n'))
        assert kind == "info"
        [program] = data["asr"]
        assert program["supports_transcript_streaming"]
        [model] = program["models"]
        assert (model["name"], model["languages"]) == ("tiny.en", ["en", "de"])

    def test_ping_is_answered_with_pong(self) -> None:
        """The text comes back."""
        assert read(protocol().receive(written("ping", {"text": "hi"}))) == [("pong", {"text": "hi"})]

    def test_unknown_messages_are_ignored(self) -> None:
        """What newer clients may say is ignored."""
        assert protocol().receive(written("select-program", {"name": "x"})) == []

    def test_data_length_is_in_bytes(self) -> None:
        """Not in characters."""
        assert read([encode("a", {"text": "ü€"})]) == [("a", {"text": "ü€"})]
