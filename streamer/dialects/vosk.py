"""
The WebSocket protocol of vosk-server as a projection of `captions.v1`.

Clients work in lock-step: each chunk of audio is answered at once by exactly one text with the result so far, since a
client waits for it before it sends more. Values of `config` are converted as vosk-server converts them: `bool()`,
`float()` and `int()` of whatever the client sends. The model that a client names is ignored; the daemon's own model
runs.
"""

from __future__ import annotations

from typing import cast

import msgspec
from msgspec import UNSET, UnsetType

from streamer.audio.pcm import MAX_RATE, MIN_RATE
from streamer.dialects.actions import Action, Dialect, EndAndClose, HangUp, Open, To
from streamer.errors import StreamerError
from streamer.protocol.bounds import fitting_keyterms
from streamer.protocol.events import Bye, Caption, Event, Flushed, TurnEnd, Word, words_of
from streamer.protocol.messages import AudioFormat, Flush, Start
from streamer.protocol.options import PAUSE_MS, Update
from streamer.text.joining import joined

DEFAULT_RATE = 8000
"""Sample rate of a client that names none, in hertz: the default of vosk-server."""
POLICY_VIOLATION = 1008
UNKNOWN_WORDS = "[unk]"
"""Phrase that admits words outside the phrase list, which this daemon always does."""
_RESET = 1


class _ClientConfig(msgspec.Struct, frozen=True):
    """Object under `config`; other fields, such as `model`, are ignored."""

    sample_rate: object = UNSET
    words: object = UNSET
    max_alternatives: object = UNSET
    phrase_list: object = UNSET


class _ClientMessage(msgspec.Struct, frozen=True):
    """Any text message of a client; other fields are ignored."""

    config: _ClientConfig | UnsetType = UNSET
    eof: object = False
    reset: object = False


class VoskProtocol(Dialect):
    """One connection: 16-bit mono audio, at DEFAULT_RATE unless `config` sets another rate before the first chunk."""

    def __init__(self) -> None:
        self._rate = DEFAULT_RATE
        self._with_words, self._n_alternatives = True, 0
        self._phrases: tuple[str, ...] = ()
        self._is_open = False
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
            opening = [Open(start, endpoint_ms=PAUSE_MS)]
        return [*opening, To(0, chunk)] if chunk else opening

    def _configure(self, config: _ClientConfig) -> list[Action]:
        try:
            if config.sample_rate is not UNSET:
                self._set_rate(_rate(config.sample_rate))
            if config.max_alternatives is not UNSET:
                self._n_alternatives = _integer(config.max_alternatives)
        except ValueError as error:
            return [_refused(str(error))]
        if config.words is not UNSET:
            self._with_words = bool(config.words)
        if config.phrase_list is not UNSET:
            self._phrases = _phrases(config.phrase_list)
            return [To(None, Update(keyterms=self._phrases))] if self._is_open else []
        return []

    def _set_rate(self, rate: int) -> None:
        if self._is_open and rate != self._rate:
            raise ValueError("sample_rate cannot change after the first audio: open another connection")
        self._rate = rate

    def _answer(self) -> str:
        return self._final() if self._ended else _encoded({"partial": self._partial})

    def _final(self) -> str:
        """Return one result with all turns that have ended since the last result."""
        text = joined(turn.text for turn in self._ended)
        words = [word for turn in self._ended for word in words_of(turn)]
        self._ended = []
        told: dict[str, object] = {"text": text}
        if self._with_words and words:
            told["result"] = [_word(word) for word in words]
        if self._n_alternatives > 0:
            return _encoded({"alternatives": [{"confidence": _confidence(words), **told}]})
        return _encoded(told)


def _rate(value: object) -> int:
    """Return `float(value)` in whole hertz. Raises ValueError if it is no number, or outside the accepted rates."""
    try:
        rate = float(cast(str, value))  # anything else that float() takes is welcome too
    except (TypeError, ValueError, OverflowError):
        rate = float("nan")
    if not MIN_RATE <= rate <= MAX_RATE:
        raise ValueError(f"sample_rate {_shown(value)}: expected a number from {MIN_RATE} to {MAX_RATE}")
    return round(rate)


def _integer(value: object) -> int:
    """Return `int(value)`. Raises ValueError if it is no number."""
    try:
        return int(cast(str, value))
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"max_alternatives {_shown(value)}: expected an integer") from None


def _phrases(value: object) -> tuple[str, ...]:
    """
    Return the phrases of a list that can be key terms.

    Left out are UNKNOWN_WORDS, entries that are no text, and what does not fit into the bounds of key terms. Anything
    but a list counts as no phrases, as in vosk-server.
    """
    phrases: list[object] = value if isinstance(value, list) else []
    # one after another: of a list of 100,000 no more is looked at than fits
    return fitting_keyterms(text for text in phrases if isinstance(text, str) and text not in ("", UNKNOWN_WORDS))


def _shown(value: object) -> str:
    return msgspec.json.encode(value).decode()[:20]


def _word(word: Word) -> dict[str, object]:
    return {"word": word.text, "start": word.start_s, "end": word.end_s, "conf": word.confidence}


def _confidence(words: list[Word]) -> float:
    return round(sum(word.confidence for word in words) / len(words), 3) if words else 0.0


def _refused(problem: str) -> HangUp:
    return HangUp(POLICY_VIOLATION, problem)


def _encoded(message: dict[str, object]) -> str:
    return msgspec.json.encode(message).decode()
