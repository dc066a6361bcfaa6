"""
What a session says: the events of `captions.v1` that speak of audio and text.

They are plain values, encoded as JSON by `protocol.encode`; every other dialect is a projection of them.
Times are seconds of stream time: 0 is the first sample of the session.
"""

from __future__ import annotations

from typing import Literal

import msgspec

TurnEndReason = Literal["silence", "flush", "limit", "end"]


class Word(msgspec.Struct, frozen=True, kw_only=True):
    """One word as shown, with its punctuation."""

    text: str
    start_s: float
    end_s: float
    confidence: float
    """Geometric mean of the token probabilities, 0 to 1."""
    stable: bool = True


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """Base of all events."""


class Speech(Event, frozen=True, kw_only=True, tag="speech"):
    """Voice began or ceased at `at_s`."""

    state: Literal["started", "stopped"]
    at_s: float


class Caption(Event, frozen=True, kw_only=True, tag="caption"):
    """The open turn as it stands. `stable` only ever grows by appending; `partial` may change."""

    turn: int
    rev: int
    stable: str
    partial: str
    start_s: float
    end_s: float
    words: tuple[Word, ...] | msgspec.UnsetType = msgspec.UNSET


class TurnEnd(Event, frozen=True, kw_only=True, tag="turn_end"):
    """The turn is final; nothing about it is said again."""

    turn: int
    text: str
    start_s: float
    end_s: float
    language: str
    reason: TurnEndReason
    words: tuple[Word, ...] | msgspec.UnsetType = msgspec.UNSET


class Ack(Event, frozen=True, kw_only=True, tag="ack"):
    """How far the daemon is: audio received, text stable, and how far behind it runs."""

    received_s: float
    stable_s: float
    lag_s: float


class Flushed(Event, frozen=True, kw_only=True, tag="flushed"):
    """Everything sent before the flush of this id is final."""

    id: int


class Skipped(Event, frozen=True, kw_only=True, tag="skipped"):
    """A stretch of audio that was not transcribed, and why."""

    start_s: float
    end_s: float
    reason: str


class Bye(Event, frozen=True, kw_only=True, tag="bye"):
    """The last event of a session."""

    reason: str
    audio_s: float
    turns: int


def words_of(event: Caption | TurnEnd) -> tuple[Word, ...]:
    """Its words; none where they were not asked for."""
    return event.words if isinstance(event.words, tuple) else ()
