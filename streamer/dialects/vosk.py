"""
The WebSocket protocol of vosk-server as a projection of `captions.v1`.

Clients work in lock-step: each chunk of audio is answered at once by exactly one text with the result so far, since a
client waits for it before it sends more. The model that a client names is ignored; the daemon's own model runs.
"""

from __future__ import annotations

import msgspec
from msgspec import UNSET, UnsetType

from streamer.audio.pcm import MAX_RATE, MIN_RATE
from streamer.dialects.actions import Action, EndAndClose, HangUp, Open, To, end_of_idle_client
from streamer.errors import StreamerError
from streamer.protocol.events import Bye, Caption, Event, Flushed, TurnEnd, Word, words_of
from streamer.protocol.messages import AudioFormat, Flush, Start
from streamer.protocol.options import Update

POLICY_VIOLATION = 1008
_RESET = 1


class _ClientConfig(msgspec.Struct, frozen=True):
    sample_rate: float | UnsetType = UNSET
    words: bool | UnsetType = UNSET
    max_alternatives: int | UnsetType = UNSET
    phrase_list: tuple[str, ...] | UnsetType = UNSET


class _ClientMessage(msgspec.Struct, frozen=True):
    """Any text message of a client; other fields, such as `model`, are ignored."""

    config: _ClientConfig | UnsetType = UNSET
    eof: int | bool | UnsetType = UNSET
    reset: int | bool | UnsetType = UNSET


class VoskProtocol:
    """One connection: 16-bit mono audio, at 16 kHz unless `config` sets another rate before the first chunk."""

    def __init__(self) -> None:
        self._rate = 16_000
        self._with_words, self._n_alternatives = True, 0
        self._phrases: tuple[str, ...] = ()
        self._is_open = False
        self._rest = b""
        self._partial = ""
        self._ended: list[TurnEnd] = []
        """Ended turns for the next answer, which holds all of them."""

    def begin(self) -> list[Action]:
        """Return nothing: the first chunk opens the session, since `config` may come before it."""
        return []

    def receive(self, frame: str | bytes) -> list[Action]:
        """Return the actions for a chunk of audio or a command. Never raises."""
        if isinstance(frame, bytes):
            return [*self._audio(frame), self._answer()]
        try:
            message = msgspec.json.decode(frame, type=_ClientMessage)
        except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
            return [_refused(str(error))]
        if message.config is not UNSET:
            return self._configure(message.config)
        if message.eof:
            return [EndAndClose()] if self._is_open else [self._final(), HangUp(1000)]
        if message.reset:
            return [To(None, Flush(id=_RESET))] if self._is_open else [self._final()]
        return [_refused('expected {"config": …}, {"eof": 1}, {"reset": 1} or audio')]

    def idle(self, idle_s: float) -> list[Action]:
        """The sessions end, and their tails are delivered before the close."""
        return [end_of_idle_client(idle_s)]

    def project(self, session: int, event: Event) -> list[str]:
        """Note captions and turns for the next answer; return the answer to a reset or to the end."""
        match event:
            case Caption():
                self._partial = event.stable + event.partial
            case TurnEnd():
                self._partial = ""
                self._ended.append(event)
            case Flushed() | Bye():
                return [self._final()]
        return []

    def finish(self) -> list[str]:
        """Return nothing: the result at `Bye` was the last text."""
        return []

    def fail(self, error: StreamerError) -> list[str]:
        """Return nothing: a client takes every text for a result, so the reason is in the close frame."""
        return []

    def _audio(self, chunk: bytes) -> list[Action]:
        opening: list[Action] = []
        if not self._is_open:
            self._is_open = True
            start = Start(audio=AudioFormat(rate=self._rate), keyterms=self._phrases, words=True, partials=True)
            opening = [Open(start)]
        chunk = self._rest + chunk
        whole = len(chunk) - len(chunk) % 2
        chunk, self._rest = chunk[:whole], chunk[whole:]
        return [*opening, To(0, chunk)] if chunk else opening

    def _configure(self, config: _ClientConfig) -> list[Action]:
        if config.sample_rate is not UNSET:
            if not MIN_RATE <= config.sample_rate <= MAX_RATE or config.sample_rate % 1:
                return [_refused(f"sample_rate {config.sample_rate:g}: expected an integer {MIN_RATE} to {MAX_RATE}")]
            if self._is_open and config.sample_rate != self._rate:
                return [_refused("sample_rate cannot change after the first audio")]
            self._rate = int(config.sample_rate)
        if config.words is not UNSET:
            self._with_words = config.words
        if config.max_alternatives is not UNSET:
            self._n_alternatives = config.max_alternatives
        if config.phrase_list is not UNSET:
            self._phrases = config.phrase_list
            return [To(None, Update(keyterms=self._phrases))] if self._is_open else []
        return []

    def _answer(self) -> str:
        return self._final() if self._ended else _encoded({"partial": self._partial})

    def _final(self) -> str:
        """Return one result with all turns that have ended since the last result."""
        text = " ".join(turn.text for turn in self._ended if turn.text)
        words = [word for turn in self._ended for word in words_of(turn)]
        self._ended = []
        told: dict[str, object] = {"text": text}
        if self._with_words and words:
            told["result"] = [_word(word) for word in words]
        if self._n_alternatives > 0:
            return _encoded({"alternatives": [{"confidence": _confidence(words), **told}]})
        return _encoded(told)


def _word(word: Word) -> dict[str, object]:
    return {"word": word.text, "start": word.start_s, "end": word.end_s, "conf": word.confidence}


def _confidence(words: list[Word]) -> float:
    return round(sum(word.confidence for word in words) / len(words), 3) if words else 0.0


def _refused(problem: str) -> HangUp:
    return HangUp(POLICY_VIOLATION, problem)


def _encoded(message: dict[str, object]) -> str:
    return msgspec.json.encode(message).decode()
