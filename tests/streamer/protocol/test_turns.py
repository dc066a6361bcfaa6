"""Tests of streamer/protocol/turns.py: what a transcript holds of the turns of a session."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET

from streamer.protocol.events import Ack, Event, TurnEnd, TurnRevised, Word
from streamer.protocol.turns import FinalTurns, revised


def turn_end(turn: int, text: str = "one to") -> TurnEnd:
    """A turn from 1 to 3 s, without words."""
    return TurnEnd(turn=turn, text=text, start_s=1.0, end_s=3.0, language="en", reason="silence")


def revision(turn: int, text: str = "one two", **fields: object) -> TurnRevised:
    """Another text of a turn."""
    defaults: dict[str, object] = {"language": "en", "reason": "text", "model": "base"}
    return TurnRevised(turn=turn, text=text, **(defaults | fields))  # type: ignore[arg-type]


def test_revision_takes_the_place_of_its_turn() -> None:
    """Text and language are those of the revision, the order is that of the turns."""
    turns = FinalTurns()
    assert [turns.take(event) for event in (turn_end(0), turn_end(1, "three"))] == [turn_end(0), turn_end(1, "three")]
    assert turns.take(revision(0, language="de")) == next(iter(turns))
    assert [(turn.turn, turn.text, turn.language) for turn in turns] == [(0, "one two", "de"), (1, "three", "en")]


def test_times_are_those_of_the_words() -> None:
    """A revised turn begins and ends with its words; without words it keeps its times."""
    words = tuple(
        Word(text=text, start_s=at_s, end_s=at_s + 0.5, confidence=1.0) for text, at_s in [("a", 0.8), ("b", 2.0)]
    )
    with_words, without = revised(turn_end(0), revision(0, words=words)), revised(turn_end(0), revision(0))
    assert (with_words.start_s, with_words.end_s, with_words.words) == (0.8, 2.5, words)
    assert (without.start_s, without.end_s, without.words) == (1.0, 3.0, UNSET)


def test_other_events_change_nothing() -> None:
    """Neither an ack nor the revision of a turn that is not known."""
    turns = FinalTurns()
    assert not turns.take(Ack(received_s=1.0, stable_s=1.0, lag_s=0.0))
    assert not turns.take(revision(3))
    assert len(turns) == 0


@given(st.lists(st.tuples(st.integers(0, 3), st.booleans())))
def test_the_last_word_on_a_turn_counts(said: list[tuple[int, bool]]) -> None:
    """Whatever is repeated after a resume: a turn has the text that came last under its number."""
    events: list[Event] = [
        revision(turn, f"revised {i}") if is_revision else turn_end(turn, f"said {i}")
        for i, (turn, is_revision) in enumerate(said)
    ]
    turns = FinalTurns()
    for event in events:
        turns.take(event)
    ended = {turn for turn, is_revision in said if not is_revision}
    for turn in turns:
        first = next(i for i, (number, is_revision) in enumerate(said) if number == turn.turn and not is_revision)
        last = max(i for i, (number, _) in enumerate(said) if number == turn.turn and i >= first)
        assert turn.text.split()[1] == str(last)
    assert {turn.turn for turn in turns} == ended
