"""Tests of streamer.dialects.skips."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from streamer.audio.notes import Note
from streamer.dialects.skips import Skips
from streamer.protocol.events import Ack, Bye, Skipped, Speech, TurnEnd

BYE = Bye(reason="end", audio_s=9.0, turns=1)


def turn(start_s: float) -> TurnEnd:
    """A turn that begins at a time."""
    return TurnEnd(turn=0, text="a", start_s=start_s, end_s=start_s + 1, language="en", reason="silence")


def test_a_place_is_told_before_the_turn_behind_it() -> None:
    """And after the one before it."""
    skips = Skips([Note("lost", 3.0), Note("channel 1 is silent")])
    assert skips.before(Speech(state="started", at_s=5.0)) == []
    assert skips.before(turn(2.0)) == []
    assert skips.before(turn(4.0)) == [Skipped(start_s=3.0, end_s=3.0, reason="lost")]
    assert skips.before(BYE) == []


@given(st.lists(st.floats(0, 1e5)), st.lists(st.floats(0, 1e5)))
def test_every_place_is_told_once_in_order(places: list[float], acks: list[float]) -> None:
    """However the session goes on; `bye` is the last."""
    skips = Skips(Note("lost", at_s) for at_s in places)
    events = [*(Ack(received_s=at_s, stable_s=at_s, lag_s=0) for at_s in acks), BYE]
    told = [skipped for event in events for skipped in skips.before(event)]
    assert [skipped.start_s for skipped in told] == sorted(places)
