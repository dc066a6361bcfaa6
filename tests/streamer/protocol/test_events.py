"""Tests of streamer/protocol/events.py: each event is the JSON the protocol shows."""

from __future__ import annotations

import msgspec
import pytest

from streamer.protocol.events import Ack, Bye, Caption, Event, Flushed, Skipped, Speech, TurnEnd, Word

WORD = Word(text="so", start_s=0.85, end_s=1.02, confidence=0.95)
EVENTS = [
    (Speech(state="started", at_s=0.82), '{"type":"speech","state":"started","at_s":0.82}'),
    (
        Caption(turn=0, rev=7, stable="so", partial=" is", start_s=0.85, end_s=2.1, words=(WORD,)),
        '{"type":"caption","turn":0,"rev":7,"stable":"so","partial":" is","start_s":0.85,"end_s":2.1,'
        '"words":[{"text":"so","start_s":0.85,"end_s":1.02,"confidence":0.95,"stable":true}]}',
    ),
    (
        TurnEnd(turn=0, text="so.", start_s=0.85, end_s=3.1, language="en", reason="silence"),
        '{"type":"turn_end","turn":0,"text":"so.","start_s":0.85,"end_s":3.1,"language":"en","reason":"silence"}',
    ),
    (Ack(received_s=12.0, stable_s=10.4, lag_s=0.2), '{"type":"ack","received_s":12.0,"stable_s":10.4,"lag_s":0.2}'),
    (Flushed(id=1), '{"type":"flushed","id":1}'),
    (
        Skipped(start_s=1.0, end_s=2.0, reason="overload"),
        '{"type":"skipped","start_s":1.0,"end_s":2.0,"reason":"overload"}',
    ),
    (Bye(reason="end", audio_s=61.2, turns=9), '{"type":"bye","reason":"end","audio_s":61.2,"turns":9}'),
]


@pytest.mark.parametrize(("event", "text"), EVENTS, ids=[type(event).__name__ for event, _ in EVENTS])
def test_wire_form(event: Event, text: str) -> None:
    """Fields stand in the protocol's order, and reading gives the same event again."""
    assert msgspec.json.encode(event).decode() == text
    assert msgspec.json.decode(text, type=type(event)) == event


def test_no_words_no_field() -> None:
    """Words that nobody asked for are absent, not null."""
    caption = Caption(turn=0, rev=1, stable="", partial="so", start_s=0.0, end_s=1.0)
    assert b"words" not in msgspec.json.encode(caption)


def test_events_are_values() -> None:
    """Events are equal by content and cannot be changed."""
    assert Flushed(id=1) == Flushed(id=1)
    with pytest.raises(AttributeError):
        EVENTS[0][0].at_s = 1.0  # type: ignore[attr-defined]
