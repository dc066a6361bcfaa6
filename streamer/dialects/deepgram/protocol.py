"""
Deepgram's live API, `/v1/listen`, as a projection of `captions.v1`: frames and events in, actions and texts out.

An interim result holds the words of the open turn that are in no final result yet. Final results follow each other
without gaps in time: one after every `SEGMENT_S` seconds of stable words, pauses not counted, and one for the rest at
the end of the turn, which is `speech_final`. A final result leaves out the newest stable word, since marks may still be
added to it.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Sequence
from typing import Literal

import msgspec

from streamer.audio.signatures import WAV, Beginning
from streamer.audio.wav import WavFormat, WavHeader
from streamer.dialects.actions import Action, Dialect, EndAndClose, HangUp, Open, To
from streamer.dialects.deepgram.request import REFUSED, WITHOUT_EFFECT, ListenRequest, Warned
from streamer.dialects.word_slices import part_of
from streamer.errors import AudioFormatError, ProtocolError, StreamerError
from streamer.protocol.bounds import Integer, keyterms_problem
from streamer.protocol.events import Ack, Bye, Caption, Event, Flushed, Speech, TurnEnd, Word, words_of
from streamer.protocol.messages import SAMPLE_BYTES, AudioFormat, Encoding, Flush, Start
from streamer.protocol.options import PAUSE_MS, Update

SEGMENT_S = 3.0
"""Seconds of stable words, without the pauses between them, that become a final result before their turn ends."""
MAX_KEYTERMS = 100
_WAV_ENCODINGS: dict[tuple[int, int], Encoding] = {
    (1, 16): "pcm_s16le",
    (3, 32): "pcm_f32le",
    (6, 8): "alaw",
    (7, 8): "mulaw",
}
"""Encodings by format tag and bits per sample, of wav whose channels can be told apart."""
_BY_WIDTH: dict[int, Literal["B", "H", "I"]] = {1: "B", 2: "H", 4: "I"}
"""Formats of `memoryview.cast` by bytes per sample: a loop over a message of a megabyte would hold others up."""


class DeepgramProtocol(Dialect):
    """
    One connection.

    Args:
        request: The parsed query.
        request_id: Id of the connection in every message.
        model: Name of the model that runs.
        created: Time of the connection, ISO 8601 in UTC.
    """

    def __init__(self, request: ListenRequest, request_id: str, model: str, created: str) -> None:
        self._request, self._request_id, self._created = request, request_id, created
        self._metadata: dict[str, object] = {
            "request_id": request_id,
            "model_info": {"name": model, "version": "streamer", "arch": "whisper"},
            "model_uuid": request_id,
            **_warnings(request.warnings),
        }
        self._beginning = Beginning()
        self._head = b""
        """First bytes of a recording, until they tell what it is."""
        self._audio = request.audio
        self._rest = b""
        """Incomplete sample frame at the end of the last message."""
        self._sha = hashlib.sha256()
        self._n_flushes = 0
        self._channels: list[_Channel] = []
        self._audio_s = 0.0

    def begin(self) -> list[Action]:
        """Return the action that opens the sessions; nothing where the format comes in a header."""
        return [] if self._audio is None else [self._open(self._audio)]

    def receive(self, frame: str | bytes) -> list[Action]:
        """Return the actions for audio or a control message. Never raises."""
        if isinstance(frame, str):
            return self._control(frame)
        if not frame:
            return self._end()  # early clients closed a stream with an empty message
        self._sha.update(frame)
        if self._audio is not None:
            return self._sound(frame)
        try:
            return self._open_recording(self._beginning.receive(frame))
        except AudioFormatError as error:
            return self._refuse(error)

    def _end(self) -> list[Action]:
        """Return the actions for the end of the audio, of which the first bytes may not be told yet."""
        try:
            begun = self._open_recording(self._beginning.end()) if self._audio is None else []
        except AudioFormatError as error:
            return self._refuse(error)
        return [*begun, EndAndClose()]

    def _refuse(self, error: AudioFormatError) -> list[Action]:
        return [*self.fail(error), HangUp(1008, "DATA-0000: the audio is neither raw as announced nor a recording")]

    def project(self, session: int, event: Event) -> list[str]:
        """Return the Deepgram messages for an event of one channel."""
        if isinstance(event, Bye):
            self._audio_s = max(self._audio_s, event.audio_s)
        return [_encoded(message) for message in self._channels[session].project(event)]

    def finish(self) -> list[str]:
        """Return `Metadata`, the last message of a connection."""
        summary = {
            "type": "Metadata",
            "transaction_key": "deprecated",
            "request_id": self._request_id,
            "sha256": self._sha.hexdigest(),
            "created": self._created,
            "duration": self._audio_s,
            "channels": self._audio.channels if self._audio is not None else 0,
            **_warnings(self._request.warnings),
        }
        return [_encoded(summary)]

    def fail(self, error: StreamerError) -> list[str]:
        """Return the `Error` message."""
        variant = error.code if isinstance(error, ProtocolError) else type(error).__name__.removesuffix("Error")
        return [_encoded({"type": "Error", "variant": variant, "description": str(error), "message": ""})]

    # --- from the client

    def _open(self, audio: AudioFormat) -> Open:
        request = self._request
        n = audio.channels if request.is_multichannel else 1
        self._audio = audio
        self._channels = [_Channel(i, n, request, self._metadata) for i in range(n)]
        each = AudioFormat(encoding=audio.encoding, rate=audio.rate, channels=1) if n > 1 else audio
        start = Start(audio=each, keyterms=request.keyterms, words=True, partials=True)
        if request.language is not None:
            start = msgspec.structs.replace(start, language=request.language)
        if request.languages:
            start = msgspec.structs.replace(start, languages=request.languages)
        if request.endpoint_ms is not None:
            start = msgspec.structs.replace(start, endpoint_ms=request.endpoint_ms)
        return Open(start, n, endpoint_ms=PAUSE_MS)

    def _open_recording(self, data: bytes) -> list[Action]:
        """Return the actions for the first bytes of a recording; nothing while there are too few."""
        self._head += data
        if not self._head:
            return []
        if not (self._request.is_multichannel and self._head.startswith(WAV)):
            return [self._open(AudioFormat(encoding="container")), *self._sound(self._head)]
        found = WavHeader().receive(self._head)
        if found is None:
            return []
        audio, sound = _audio_of(found[0]), found[2]
        if audio is None:
            return [self._open(AudioFormat(encoding="container")), *self._sound(self._head)]
        return [self._open(audio), *self._sound(sound)]

    def _sound(self, data: bytes) -> list[Action]:
        """Return whole sample frames for each session; a client may split its stream anywhere."""
        assert self._audio is not None
        width = SAMPLE_BYTES.get(self._audio.encoding, 1)
        data = self._rest + data
        whole = len(data) - len(data) % (width * self._audio.channels)
        data, self._rest = data[:whole], data[whole:]
        if not data:
            return []
        n = len(self._channels)
        return [To(i, _channel_of(data, i, n, width)) for i in range(n)]

    def _control(self, text: str) -> list[Action]:
        try:
            message = msgspec.json.decode(text, type=_Control)
        except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
            return [_schema_error(str(error), text)]
        match message.type:
            case "KeepAlive":
                return []
            case "CloseStream":
                return self._end()
            case "Finalize":
                return self._finalize(message.channel)
            case "Configure":
                return self._configure(message)
        return [_schema_error("unknown type; expected KeepAlive, Finalize, Configure or CloseStream", text)]

    def _finalize(self, channel: int | None) -> list[Action]:
        if not self._channels:
            return []  # without audio there is nothing to finalize
        self._n_flushes += 1
        return [To(channel if channel in range(len(self._channels)) else None, Flush(id=self._n_flushes))]

    def _configure(self, message: _Control) -> list[Action]:
        if missing := [name for name in message.features_asked if name in (*REFUSED, *WITHOUT_EFFECT)]:
            description = f"not supported here: {', '.join(missing)}"
            return [self._configure_failure("CONFIGURE_UNSUPPORTED_FEATURE", description)]
        if message.keyterms is None:
            return [_encoded({"type": "ConfigureSuccess", "request_id": self._request_id})]
        problem = keyterms_problem(message.keyterms)
        if len(message.keyterms) > MAX_KEYTERMS or problem is not None:
            description = problem or f"{len(message.keyterms)} keyterms: expected at most {MAX_KEYTERMS}"
            return [self._configure_failure("CONFIGURE_KEYTERM_LIMIT_EXCEEDED", description)]
        # sessions that are not open yet take them at `_open`
        self._request = msgspec.structs.replace(self._request, keyterms=message.keyterms)
        success: dict[str, object] = {
            "type": "ConfigureSuccess",
            "request_id": self._request_id,
            "keyterms": message.keyterms,
        }
        update: list[Action] = [To(None, Update(keyterms=message.keyterms))] if self._channels else []
        return [*update, _encoded(success)]

    def _configure_failure(self, code: str, description: str) -> str:
        told: dict[str, object] = {"code": code, "description": description}
        return _encoded({"type": "ConfigureFailure", "request_id": self._request_id} | told)


class _Control(msgspec.Struct, frozen=True):
    """Any text message of a client; other fields are ignored."""

    type: str
    channel: Integer | None = None
    keyterms: tuple[str, ...] | None = None
    features: dict[str, object] | None = None

    @property
    def features_asked(self) -> list[str]:
        """Names of the features that the message switches on."""
        return [name for name, value in (self.features or {}).items() if value not in (False, None)]


class _Channel:
    """Deepgram messages for the events of one channel."""

    def __init__(self, index: int, n: int, request: ListenRequest, metadata: dict[str, object]) -> None:
        self._index, self._request, self._metadata = [index, n], request, metadata
        self._final_s = 0.0
        """Stream time where the last final result ends, in seconds."""
        self._n_final = 0
        """Number of words of the open turn that are in final results."""
        self._heard_s = 0.0
        self._last_word_s: float | None = None
        """End of the newest word, from the end of its turn until speech starts or the utterance ends; else None."""
        self._is_speaking = False
        """Whether speech goes on: the turn that has ended was too long, and another one follows."""
        self._n_answered = 0
        """Flushes that the end of a turn has answered before their `Flushed`."""

    def project(self, event: Event) -> list[dict[str, object]]:
        match event:
            case Caption():
                return self._caption(event)
            case TurnEnd():
                return self._turn_end(event)
            case Speech(state="started", at_s=at_s):
                return self._speech_started(at_s)
            case Speech():
                self._is_speaking = False
            case Flushed():
                return self._flushed()
            case Ack(received_s=received_s, lag_s=lag_s):
                self._heard_s = max(self._heard_s, received_s - lag_s)
                return [] if self._is_speaking else self._utterance_end(self._heard_s)
        return []

    def _caption(self, caption: Caption) -> list[dict[str, object]]:
        words, text = words_of(caption), caption.stable + caption.partial
        results = []
        ready = sum(word.stable for word in words) - 1
        if sum(word.end_s - word.start_s for word in words[self._n_final : max(ready, 0)]) >= SEGMENT_S:
            said = part_of(text, words, self._n_final, ready)
            results.append(self._final(said, words[self._n_final : ready]))
            self._n_final = ready
        rest = part_of(text, words, self._n_final)
        if self._request.interim_results and rest:
            results.append(self._interim(rest, words[self._n_final :]))
        return results

    def _turn_end(self, turn: TurnEnd) -> list[dict[str, object]]:
        words = words_of(turn)
        said, rest = part_of(turn.text, words, self._n_final), words[self._n_final :]
        is_flushed = turn.reason == "flush"
        self._n_answered += is_flushed
        is_endpoint = turn.reason != "limit" and self._request.marks_endpoints
        result = self._final(said, rest, turn.language, speech_final=is_endpoint, from_finalize=is_flushed)
        self._n_final = 0
        self._last_word_s = words[-1].end_s if words else self._last_word_s
        return [result]

    def _flushed(self) -> list[dict[str, object]]:
        """Answer a Finalize, with an empty result where the end of a turn has not answered it."""
        if self._n_answered:
            self._n_answered -= 1
            return []
        return [self._final("", (), until_s=self._heard_s, from_finalize=True)]

    def _speech_started(self, at_s: float) -> list[dict[str, object]]:
        # a long enough pause before this speech ends the utterance; after a shorter one it continues
        ended = self._utterance_end(at_s)
        self._last_word_s, self._is_speaking = None, True
        if not self._request.vad_events:
            return ended
        return [*ended, {"type": "SpeechStarted", "channel": self._index, "timestamp": at_s}]

    def _utterance_end(self, now_s: float) -> list[dict[str, object]]:
        gap_ms, end_s = self._request.utterance_end_ms, self._last_word_s
        if gap_ms is None or end_s is None or (now_s - end_s) * 1000 < gap_ms:
            return []
        self._last_word_s = None
        return [{"type": "UtteranceEnd", "channel": self._index, "last_word_end": end_s}]

    def _final(
        self, transcript: str, words: Sequence[Word], language: str = "", *, until_s: float = 0.0, **flags: bool
    ) -> dict[str, object]:
        """A result that no later result changes; `flags` sets `speech_final` and `from_finalize`."""
        end_s = max(self._end_s(words), until_s)
        message = self._results(transcript, words, end_s, language) | {"is_final": True} | flags
        self._final_s = end_s
        return message

    def _interim(self, transcript: str, words: Sequence[Word]) -> dict[str, object]:
        """A result that later results replace."""
        return self._results(transcript, words, self._end_s(words))

    def _end_s(self, words: Sequence[Word]) -> float:
        return max(self._final_s, words[-1].end_s) if words else self._final_s

    def _results(self, transcript: str, words: Sequence[Word], end_s: float, language: str = "") -> dict[str, object]:
        """A `Results` message from the end of the last final to `end_s`, with no flag set. `language`: if known."""
        is_told = self._request.tells_languages and language and words
        alternative = {
            "transcript": transcript,
            "confidence": round(sum(word.confidence for word in words) / len(words), 3) if words else 0.0,
            "words": [_word(word) | ({"language": language} if is_told else {}) for word in words],
            **({"languages": [language]} if is_told else {}),
            **({"languages_hinted": self._request.languages} if self._request.tells_languages else {}),
        }
        return {
            "type": "Results",
            "channel_index": self._index,
            "start": self._final_s,
            "duration": round(end_s - self._final_s, 3),
            "is_final": False,
            "speech_final": False,
            "from_finalize": False,
            "channel": {"alternatives": [alternative]},
            "metadata": self._metadata,
        }


def _warnings(warnings: Sequence[Warned]) -> dict[str, object]:
    return {"warnings": warnings} if warnings else {}


def _word(word: Word) -> dict[str, object]:
    return {
        "word": _bare(word.text),
        "start": word.start_s,
        "end": word.end_s,
        "confidence": word.confidence,
        "punctuated_word": word.text,
    }


def _bare(text: str) -> str:
    """A word in lower case without the marks around it; those inside belong to it, as in 3.5, and so do vowel signs."""
    kept = [i for i, c in enumerate(text) if c.isalnum() or c in "'-" or unicodedata.category(c).startswith("M")]
    return text[kept[0] : kept[-1] + 1].lower() if kept else text


def _audio_of(format_: WavFormat) -> AudioFormat | None:
    """The format of samples whose channels can be told apart; None: others are mixed."""
    encoding = _WAV_ENCODINGS.get((format_.tag, format_.bits))
    fields = {"encoding": encoding, "rate": format_.rate, "channels": format_.channels}
    try:
        return msgspec.convert(fields, AudioFormat)
    except msgspec.ValidationError:
        return None


def _channel_of(interleaved: bytes, index: int, n: int, width: int) -> bytes:
    """Extract one of `n` channels from whole sample frames of `width` bytes per sample."""
    if n == 1:
        return interleaved
    return memoryview(interleaved).cast(_BY_WIDTH[width])[index::n].tobytes()


def _schema_error(problem: str, text: str) -> str:
    shown = text if len(text) <= 200 else text[:200] + "…"
    return _encoded({"type": "Error", "variant": "SchemaError", "description": problem, "message": shown})


def _encoded(message: dict[str, object]) -> str:
    return msgspec.json.encode(message).decode()
