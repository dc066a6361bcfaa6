"""
Session events: the server messages of `captions.v1` about audio and text.

Events are plain values, encoded as JSON by `messages.encode`. Every other dialect is a projection of these events.
Times are seconds of stream time: 0 is the first sample of the session. Their order is a grammar (`{x}` means any number
of x, `[x]` at most one, `n` rises by one from turn to turn):

    session    = { utterance | ack | flushed | turn_revised }, ack, bye
    utterance  = speech started, { turn | ack }, speech stopped
    turn n     = { caption n | ack }, turn_end n

An utterance without words has no turn. A turn that reaches its length limit ends inside its utterance, and the next
turn follows. A turn is revised at most once, some time after it ended. The messages about the connection around a
session (`hello`, `started`, `draining`, `room`, `error`) are in `messages`.
"""

from __future__ import annotations

from typing import Literal

import msgspec

TurnEndReason = Literal["silence", "flush", "limit", "end"]
RevisionReason = Literal["text", "speakers"]


class Word(msgspec.Struct, frozen=True, kw_only=True):
    """One word with its punctuation, times and confidence."""

    text: str
    start_s: float
    end_s: float
    confidence: float
    """Geometric mean of the token probabilities, 0 to 1."""
    stable: bool = True
    """False while the word is part of `partial`."""


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """Base class of all events."""


class Speech(Event, frozen=True, kw_only=True, tag="speech"):
    """The voice detector found the start or the end of speech at `at_s`."""

    state: Literal["started", "stopped"]
    at_s: float


class Caption(Event, frozen=True, kw_only=True, tag="caption"):
    """The current text of the open turn. `stable` only grows by appending; `partial` may change completely."""

    turn: int
    rev: int
    """Rises by one from caption to caption of a turn, on one connection."""
    stable: str
    partial: str
    """Appended to `stable` as it is: it begins with the space between the two, if there is one."""
    start_s: float
    end_s: float
    words: tuple[Word, ...] | msgspec.UnsetType = msgspec.UNSET


class TurnEnd(Event, frozen=True, kw_only=True, tag="turn_end"):
    """The final text of a turn. Text is empty where the decoder withdrew everything it had shown."""

    turn: int
    text: str
    start_s: float
    end_s: float
    language: str
    reason: TurnEndReason
    words: tuple[Word, ...] | msgspec.UnsetType = msgspec.UNSET


class TurnRevised(Event, frozen=True, kw_only=True, tag="turn_revised"):
    """Another text of a turn that has ended, from its second pass: it takes the place of the turn in a transcript."""

    turn: int
    text: str
    language: str
    reason: RevisionReason
    """What the second pass changed; `speakers` is reserved."""
    model: str
    """Name of the model of the second pass."""
    words: tuple[Word, ...] | msgspec.UnsetType = msgspec.UNSET


class Ack(Event, frozen=True, kw_only=True, tag="ack"):
    """Progress of a session: audio received, audio whose text is stable, and the transcription lag, in seconds."""

    received_s: float
    stable_s: float
    lag_s: float


class Flushed(Event, frozen=True, kw_only=True, tag="flushed"):
    """Answer to the flush of this id: all audio sent before it is transcribed and its turn has ended."""

    id: int


class Skipped(Event, frozen=True, kw_only=True, tag="skipped"):
    """An interval of audio that was not transcribed, and the reason."""

    start_s: float
    end_s: float
    reason: str


class Bye(Event, frozen=True, kw_only=True, tag="bye"):
    """The last event of a session: audio transcribed, in seconds, and the number of turns."""

    reason: str
    audio_s: float
    turns: int


def words_of(event: Caption | TurnEnd | TurnRevised) -> tuple[Word, ...]:
    """Return the words of an event; empty if the client did not ask for words."""
    return event.words if isinstance(event.words, tuple) else ()
