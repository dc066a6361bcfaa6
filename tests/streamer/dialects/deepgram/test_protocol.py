"""Tests of streamer/dialects/deepgram/protocol.py: events and frames in, what Deepgram's clients read out."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import msgspec
import pytest
from deepgram.listen.v1.types import ListenV1Results
from hypothesis import given
from hypothesis import strategies as st

from streamer.dialects.actions import EndAndClose, HangUp, Open, To
from streamer.dialects.deepgram.protocol import MAX_KEYTERMS, SEGMENT_S, DeepgramProtocol
from streamer.dialects.deepgram.request import REFUSED, WITHOUT_EFFECT, ListenRequest, Warned
from streamer.errors import EngineError
from streamer.protocol.events import Ack, Bye, Caption, Event, Flushed, Speech, TurnEnd, TurnEndReason, Word
from streamer.protocol.messages import AudioFormat, Encoding, Flush
from streamer.protocol.options import PAUSE_MS, Update

REQUEST = ListenRequest(audio=AudioFormat(), interim_results=True)
TEXT = "So the first thing, of course, is latency."


def opened(request: ListenRequest = REQUEST) -> DeepgramProtocol:
    """A connection whose sessions are open."""
    dialect = DeepgramProtocol(request, "r1", "tiny.en", "2026-11-23T01:00:00.000Z")
    dialect.begin()
    return dialect


def words(text: str, n_stable: int = 99) -> tuple[Word, ...]:
    """A word every second from 1 s on."""
    return tuple(
        Word(text=word, start_s=1.0 + i, end_s=2.0 + i, confidence=0.5 + 0.1 * (i % 2), stable=i < n_stable)
        for i, word in enumerate(text.split())
    )


def caption(n_stable: int, n_said: int) -> Caption:
    """The first words of TEXT."""
    said = TEXT.split()[:n_said]
    stable, partial = " ".join(said[:n_stable]), " ".join(said[n_stable:])
    return Caption(
        turn=0,
        rev=1,
        stable=stable,
        partial=f" {partial}" if stable and partial else partial,
        start_s=1.0,
        end_s=1.0 + n_said,
        words=words(" ".join(said), n_stable),
    )


def turn_end(text: str = TEXT, reason: TurnEndReason = "silence") -> TurnEnd:
    """The end of the turn."""
    end_s = 1.0 + len(text.split())
    return TurnEnd(turn=0, text=text, start_s=1.0, end_s=end_s, language="en", reason=reason, words=words(text))


def told(dialect: DeepgramProtocol, *events: Event, channel: int = 0) -> list[dict[str, Any]]:
    """Messages of these events."""
    return [json.loads(text) for event in events for text in dialect.project(channel, event)]


def transcript(message: dict[str, Any]) -> str:
    """Of a Results message."""
    text: str = message["channel"]["alternatives"][0]["transcript"]
    return text


class TestResults:
    """Interims, finals, and what clients make of them."""

    def test_results_have_deepgrams_shape(self) -> None:
        """Everything that a client indexes is there."""
        [message] = told(opened(), turn_end("Hello, World"))
        assert message == {
            "type": "Results",
            "channel_index": [0, 1],
            "start": 0.0,
            "duration": 3.0,
            "is_final": True,
            "speech_final": True,
            "from_finalize": False,
            "channel": {
                "alternatives": [
                    {
                        "transcript": "Hello, World",
                        "confidence": 0.55,
                        "words": [
                            {"word": "hello", "start": 1.0, "end": 2.0, "confidence": 0.5, "punctuated_word": "Hello,"},
                            {"word": "world", "start": 2.0, "end": 3.0, "confidence": 0.6, "punctuated_word": "World"},
                        ],
                    }
                ]
            },
            "metadata": {
                "request_id": "r1",
                "model_info": {"name": "tiny.en", "version": "streamer", "arch": "whisper"},
                "model_uuid": "r1",
            },
        }

    @pytest.mark.parametrize(
        ("said", "word"),
        [("“Well,”", "well"), ("3.5", "3.5"), ("10:30.", "10:30"), ("dogs'", "dogs'"), ("हिन्दी।", "हिन्दी"), ("…", "…")],
    )
    def test_a_bare_word_is_without_the_marks_around_it(self, said: str, word: str) -> None:
        """Those inside it stay, as do the vowel signs of scripts that write them so."""
        [message] = told(opened(), turn_end(said))
        [shown] = message["channel"]["alternatives"][0]["words"]
        assert (shown["word"], shown["punctuated_word"]) == (word, said)

    def test_finals_are_the_text(self) -> None:
        """Joined they are the turn, without gaps in time, the last one `speech_final`; interims are the rest."""
        messages = told(opened(), caption(0, 2), caption(2, 4), caption(5, 7), caption(6, 8), turn_end())
        finals = [message for message in messages if message["is_final"]]
        assert " ".join(transcript(message) for message in finals) == TEXT
        assert len(finals) == 2
        assert [message["speech_final"] for message in finals] == [False, True]
        ends = [message["start"] + message["duration"] for message in finals]
        assert [message["start"] for message in finals] == [0.0, *ends[:-1]]
        assert [transcript(message) for message in messages if not message["is_final"]] == [
            "So the",
            "So the first thing,",
            "of course, is",
            "of course, is latency.",
        ]

    def test_the_newest_stable_word_waits_for_its_marks(self) -> None:
        """A mark may still join it, so no final holds it before its turn ends."""
        messages = told(opened(), caption(5, 5))
        assert [transcript(message) for message in messages] == ["So the first thing,", "of"]

    @given(st.lists(st.tuples(st.floats(0, 5), st.floats(0.1, 1.5)), min_size=1, max_size=30), st.data())
    def test_only_the_last_final_of_a_turn_is_short(
        self, times: list[tuple[float, float]], data: st.DataObject
    ) -> None:
        """Whatever the pauses before words, a final within the turn holds `SEGMENT_S` of words; pauses do not count."""
        said, at_s = [], 10.0  # after silence, which no final covers
        for pause_s, length_s in times:
            said.append(Word(text="so", start_s=at_s + pause_s, end_s=at_s + pause_s + length_s, confidence=0.5))
            at_s += pause_s + length_s
        dialect, finals = opened(ListenRequest(audio=AudioFormat())), []
        for n in sorted(data.draw(st.lists(st.integers(1, len(said)), max_size=10))):
            text = " ".join(word.text for word in said[:n])
            event = Caption(turn=0, rev=1, stable=text, partial="", start_s=0, end_s=at_s, words=tuple(said[:n]))
            finals += told(dialect, event)
        words_of_finals = [final["channel"]["alternatives"][0]["words"] for final in finals]
        assert all(sum(word["end"] - word["start"] for word in found) >= SEGMENT_S for found in words_of_finals)

    def test_a_word_after_a_long_pause_waits_for_its_sentence(self) -> None:
        """The silence before a turn does not count towards `SEGMENT_S`."""
        late = [Word(text=text, start_s=60.0 + i, end_s=60.5 + i, confidence=0.5) for i, text in enumerate("abc")]
        event = Caption(turn=0, rev=1, stable="a b c", partial="", start_s=60.0, end_s=63.0, words=tuple(late))
        assert told(opened(ListenRequest(audio=AudioFormat())), event) == []

    def test_warnings_stand_in_the_metadata(self) -> None:
        """Of every result and of the summary, where Deepgram puts them: its clients skip messages of unknown types."""
        warned = Warned(parameter="numerals", message="numerals has no effect here")
        dialect = opened(msgspec.structs.replace(REQUEST, warnings=(warned,)))
        expected = [
            {"parameter": "numerals", "type": "unsupported_parameter", "message": "numerals has no effect here"}
        ]
        [result] = told(dialect, turn_end())
        [summary] = dialect.finish()
        assert result["metadata"]["warnings"] == json.loads(summary)["warnings"] == expected

    def test_languages_are_told_where_several_are_spoken(self) -> None:
        """Of the end of a turn, which knows them, and by Deepgram's own types; hints are told with every result."""
        request = msgspec.structs.replace(REQUEST, language="auto", languages=("en", "de"), tells_languages=True)
        interim, final = map(ListenV1Results.model_validate, told(opened(request), caption(0, 2), turn_end()))
        [rest], [said] = interim.channel.alternatives, final.channel.alternatives
        assert (rest.languages, rest.words[0].language) == (None, None)
        assert (said.languages, {word.language for word in said.words}) == (["en"], {"en"})
        assert rest.languages_hinted == said.languages_hinted == ["en", "de"]

    def test_no_interims_unless_asked_for(self) -> None:
        """Finals alone."""
        messages = told(opened(ListenRequest(audio=AudioFormat())), caption(0, 2), caption(2, 4), turn_end())
        assert [transcript(message) for message in messages] == [TEXT]

    def test_a_turn_that_finals_have_said_ends_with_an_empty_final(self) -> None:
        """Its end is told all the same."""
        dialect = opened()
        told(dialect, caption(8, 8))
        [message] = told(dialect, turn_end(" ".join(TEXT.split()[:7])))
        assert (transcript(message), message["is_final"], message["speech_final"]) == ("", True, True)

    def test_endpoints_are_not_marked_where_they_are_off(self) -> None:
        """`endpointing=false`: no pause is told."""
        request = msgspec.structs.replace(REQUEST, marks_endpoints=False)
        assert not told(opened(request), turn_end())[0]["speech_final"]
        assert not told(opened(), turn_end(reason="limit"))[0]["speech_final"]


class TestFinalize:
    """Every one is answered, once."""

    def test_finalize_ends_the_open_turn(self) -> None:
        """The turn is the answer."""
        dialect = opened()
        assert dialect.receive('{"type":"Finalize"}') == [To(None, Flush(id=1))]
        [message] = told(dialect, turn_end(reason="flush"), Flushed(id=1))
        assert message["from_finalize"]
        assert transcript(message) == TEXT

    def test_finalize_in_silence_is_answered_empty(self) -> None:
        """An empty result is the answer, up to where was heard."""
        [message] = told(opened(), Ack(received_s=4.0, stable_s=3.5, lag_s=0.5), Flushed(id=1))
        assert (transcript(message), message["is_final"], message["from_finalize"]) == ("", True, True)
        assert (message["start"], message["duration"]) == (0.0, 3.5)

    def test_each_finalize_is_answered(self) -> None:
        """As many answers as questions."""
        messages = told(opened(), turn_end(reason="flush"), Flushed(id=1), Flushed(id=2), Flushed(id=3))
        assert [message["from_finalize"] for message in messages] == [True, True, True]

    def test_finalize_can_name_one_channel(self) -> None:
        """A client may name it."""
        request = ListenRequest(audio=AudioFormat(channels=2), is_multichannel=True)
        assert opened(request).receive('{"type":"Finalize","channel":1}') == [To(1, Flush(id=1))]


class TestSpeech:
    """What goes on between the results."""

    def test_speech_started_is_told_where_asked_for(self) -> None:
        """If asked for."""
        started = Speech(state="started", at_s=0.8)
        assert told(opened(), started) == []
        request = msgspec.structs.replace(REQUEST, vad_events=True)
        assert told(opened(request), started) == [{"type": "SpeechStarted", "channel": [0, 1], "timestamp": 0.8}]

    def test_utterance_end_follows_the_asked_silence(self) -> None:
        """Once, when the gap after the last word is long enough."""
        dialect = opened(msgspec.structs.replace(REQUEST, utterance_end_ms=1000))
        said = turn_end("So")
        assert told(dialect, said, ack(2.9))[1:] == []
        assert told(dialect, ack(3.0), ack(3.5)) == [{"type": "UtteranceEnd", "channel": [0, 1], "last_word_end": 2.0}]

    def test_speech_within_the_gap_continues_the_utterance(self) -> None:
        """It ends no utterance, and where it comes late enough, that is told before it."""
        request = msgspec.structs.replace(REQUEST, utterance_end_ms=1000, vad_events=True)
        dialect = opened(request)
        told(dialect, turn_end("So"))
        messages = told(dialect, Speech(state="started", at_s=2.5), ack(9.0))
        assert [message["type"] for message in messages] == ["SpeechStarted"]
        dialect = opened(request)
        told(dialect, turn_end("So"))
        messages = told(dialect, Speech(state="started", at_s=3.2), ack(9.0))
        assert [message["type"] for message in messages] == ["UtteranceEnd", "SpeechStarted"]

    def test_a_turn_that_was_too_long_ends_no_utterance(self) -> None:
        """The next one follows at once, however late its words are; the silence after that one counts."""
        dialect = opened(msgspec.structs.replace(REQUEST, utterance_end_ms=1000, interim_results=False))
        told(dialect, Speech(state="started", at_s=1.0), turn_end("So", "limit"))
        assert told(dialect, ack(3.5), caption(1, 2), ack(9.0)) == []
        messages = told(dialect, turn_end(), Speech(state="stopped", at_s=9.0), ack(9.5), ack(10.0))
        assert [message["type"] for message in messages] == ["Results", "UtteranceEnd"]
        assert messages[-1]["last_word_end"] == 9.0


def ack(received_s: float) -> Ack:
    """All is heard up to here."""
    return Ack(received_s=received_s, stable_s=0.0, lag_s=0.0)


class TestClient:
    """What it sends."""

    def test_the_query_becomes_options_of_each_session(self) -> None:
        """What the query says, and the daemon's defaults for the rest."""
        request = ListenRequest(
            audio=AudioFormat(rate=8000), language="auto", languages=("de",), keyterms=("Ray",), endpoint_ms=300
        )
        [action] = DeepgramProtocol(request, "r1", "m", "").begin()
        assert isinstance(action, Open)
        assert (action.start.language, action.start.languages) == ("auto", ("de",))
        assert (action.start.keyterms, action.start.endpoint_ms) == (("Ray",), 300)
        [action] = DeepgramProtocol(REQUEST, "r1", "m", "").begin()
        assert isinstance(action, Open)
        assert action.start.language is action.start.languages is action.start.endpoint_ms is msgspec.UNSET
        assert action.endpoint_ms == PAUSE_MS

    @pytest.mark.parametrize(("encoding", "width"), [("mulaw", 1), ("pcm_s16le", 2), ("pcm_f32le", 4)])
    def test_each_channel_gets_its_samples(self, encoding: Encoding, width: int) -> None:
        """Of whatever width."""
        request = ListenRequest(audio=AudioFormat(encoding=encoding, channels=3), is_multichannel=True)
        dialect = opened(request)
        samples = [bytes([n]) * width for n in range(6)]
        assert dialect.receive(b"".join(samples)) == [To(n, samples[n] + samples[n + 3]) for n in range(3)]

    def test_channels_become_sessions(self) -> None:
        """Each gets its own session and its own samples; a stream may be cut in the middle of a sample."""
        request = ListenRequest(audio=AudioFormat(channels=2), is_multichannel=True)
        dialect = DeepgramProtocol(request, "r1", "m", "")
        [action] = dialect.begin()
        assert isinstance(action, Open)
        assert (action.n_sessions, action.start.audio.channels) == (2, 1)
        assert dialect.receive(b"aAbB12") == [To(0, b"aA"), To(1, b"bB")]
        assert dialect.receive(b"3") == []
        assert dialect.receive(b"4cCdD") == [To(0, b"12cC"), To(1, b"34dD")]
        [message] = told(dialect, turn_end(), channel=1)
        assert message["channel_index"] == [1, 2]

    def test_channels_are_mixed_unless_asked_apart(self) -> None:
        """Without `multichannel` they are one speaker's."""
        dialect = DeepgramProtocol(ListenRequest(audio=AudioFormat(channels=2)), "r1", "m", "")
        [action] = dialect.begin()
        assert isinstance(action, Open)
        assert (action.n_sessions, action.start.audio.channels) == (1, 2)
        assert dialect.receive(b"aAbB") == [To(0, b"aAbB")]

    def test_a_wav_header_opens_the_session(self) -> None:
        """The header opens the session."""
        dialect = DeepgramProtocol(ListenRequest(audio=None), "r1", "m", "")
        assert dialect.begin() == []
        header = bytes.fromhex("524946460000000057415645666d7420100000000100010080bb0000007701000200100064617461")
        assert dialect.receive(header[:1]) == dialect.receive(header[1:11]) == []
        opening, sound = dialect.receive(header[11:])
        assert isinstance(opening, Open)
        assert opening.start.audio == AudioFormat(encoding="container")
        assert sound == To(0, header)
        assert dialect.receive(b"abc") == [To(0, b"abc")]

    def test_channels_of_a_wav_become_sessions(self) -> None:
        """If they are asked for; samples that `captions.v1` has no name for are mixed."""
        for bits, n_sessions in ((16, 2), (24, 1)):
            dialect = DeepgramProtocol(ListenRequest(audio=None, is_multichannel=True), "r1", "m", "")
            dialect.begin()
            format_ = b"WAVEfmt \x10\0\0\0\1\0\2\0\x80\x3e\0\0" + bytes(6) + bytes([bits, 0])
            assert dialect.receive(b"RIFF\0\0\0\0" + format_) == []
            opening, *sound = dialect.receive(b"data\0\0\0\0aAbB")
            assert isinstance(opening, Open)
            assert opening.n_sessions == n_sessions
            assert n_sessions == 1 or sound == [To(0, b"aA"), To(1, b"bB")]

    def test_audio_that_is_neither_wav_nor_webm_is_refused(self) -> None:
        """It is told what to do, once so much has come that it would have been found."""
        dialect = DeepgramProtocol(ListenRequest(audio=None), "r1", "m", "")
        assert dialect.receive(b"OggS" * 100) == []
        message, hangup = dialect.receive(b"OggS" * 1000)
        assert "send encoding=linear16" in json.loads(str(message))["description"]
        assert isinstance(hangup, HangUp)

    @pytest.mark.parametrize("last", [b"", '{"type":"CloseStream"}'])
    def test_audio_too_short_to_be_told_is_told_at_its_end(self, last: str | bytes) -> None:
        """A frame alone may be a recording; what is none is refused, instead of an empty success."""
        dialect = DeepgramProtocol(ListenRequest(audio=None), "r1", "m", "")
        assert dialect.receive(b"\xff\xfb\x10\xc4" + bytes(40)) == []
        opening, sound, end = dialect.receive(last)
        assert isinstance(opening, Open)
        assert (sound, end) == (To(0, b"\xff\xfb\x10\xc4" + bytes(40)), EndAndClose())

        dialect = DeepgramProtocol(ListenRequest(audio=None), "r1", "m", "")
        assert dialect.receive(b"abc") == []
        assert isinstance(dialect.receive(last)[-1], HangUp)

    def test_a_recording_is_taken_from_where_it_begins(self) -> None:
        """What stands in front of it is left out."""
        dialect = DeepgramProtocol(ListenRequest(audio=None), "r1", "m", "")
        assert dialect.receive(b"data: ") == []
        opening, sound = dialect.receive(b"fLaC\0\0\0\x22" + bytes(34))
        assert isinstance(opening, Open)
        assert sound == To(0, b"fLaC\0\0\0\x22" + bytes(34))

    def test_close_stream_ends_the_sessions(self) -> None:
        """By a message, or as the first clients did, by empty audio; the summary comes last."""
        dialect = opened()
        assert dialect.receive('{"type":"CloseStream"}') == [EndAndClose()] == dialect.receive(b"")
        dialect.receive(b"ab")
        told(dialect, Bye(reason="end", audio_s=1.5, turns=0))
        assert [json.loads(text) for text in dialect.finish()] == [
            {
                "type": "Metadata",
                "transaction_key": "deprecated",
                "request_id": "r1",
                "sha256": hashlib.sha256(b"ab").hexdigest(),
                "created": "2026-11-23T01:00:00.000Z",
                "duration": 1.5,
                "channels": 1,
            }
        ]

    def test_keep_alive_does_nothing(self) -> None:
        """No answer."""
        assert opened().receive('{"type":"KeepAlive"}') == []

    def test_configure_changes_key_terms(self) -> None:
        """New key terms are in force and confirmed; too many are refused; none leave them as they are."""
        dialect = opened()
        update, success = dialect.receive('{"type":"Configure","keyterms":["Ray Serve"]}')
        assert update == To(None, Update(keyterms=("Ray Serve",)))
        assert json.loads(str(success)) == {
            "type": "ConfigureSuccess",
            "request_id": "r1",
            "keyterms": ["Ray Serve"],
        }
        [failure] = dialect.receive(json.dumps({"type": "Configure", "keyterms": ["x"] * (MAX_KEYTERMS + 1)}))
        assert json.loads(str(failure))["code"] == "CONFIGURE_KEYTERM_LIMIT_EXCEEDED"
        [success] = dialect.receive('{"type":"Configure","features":{"numerals":false,"smart_format":true}}')
        assert json.loads(str(success)) == {"type": "ConfigureSuccess", "request_id": "r1"}

    @pytest.mark.parametrize("name", [*REFUSED, *WITHOUT_EFFECT])
    def test_configure_refuses_features_that_are_missing(self, name: str) -> None:
        """As a whole: the key terms beside it are not taken either."""
        message = {"type": "Configure", "features": {name: True}, "keyterms": ["Ray"]}
        [failure] = opened().receive(json.dumps(message))
        assert json.loads(str(failure)) == {
            "type": "ConfigureFailure",
            "request_id": "r1",
            "code": "CONFIGURE_UNSUPPORTED_FEATURE",
            "description": f"not supported here: {name}",
        }

    def test_unreadable_messages_are_answered_with_an_error(self) -> None:
        """It is named, with what was sent."""
        [error] = opened().receive('{"type":"Hello"}')
        assert json.loads(str(error)) == {
            "type": "Error",
            "variant": "SchemaError",
            "description": "unknown type; expected KeepAlive, Finalize, Configure or CloseStream",
            "message": '{"type":"Hello"}',
        }

    def test_a_failure_is_told(self) -> None:
        """The daemon's own errors have the same shape."""
        [error] = opened().fail(EngineError("broken"))
        assert json.loads(error)["description"] == "broken"

    @given(st.lists(st.text() | st.binary() | st.from_regex(r'\{"type":"[A-Z][a-z]*","\w+":.*\}'), max_size=10))
    def test_no_frame_raises(self, frames: list[str | bytes]) -> None:
        """Whatever comes, nothing is raised, with raw audio or in a container."""
        for request in (REQUEST, ListenRequest(audio=None)):
            dialect = opened(request)
            for frame in frames:
                dialect.receive(frame)
            dialect.finish()
