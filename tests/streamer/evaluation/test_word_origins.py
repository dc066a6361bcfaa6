"""Tests of streamer/evaluation/word_origins.py: hand-made events of one session."""

from __future__ import annotations

from streamer.evaluation.word_origins import Moment, OriginTracker
from streamer.protocol.events import Caption, TurnEnd, Word


def words(text: str, stable: int) -> tuple[Word, ...]:
    """Words of a text, the first ones stable."""
    return tuple(
        Word(text=word, start_s=0.5 * i, end_s=0.5 * i + 0.4, confidence=0.5, stable=i < stable)
        for i, word in enumerate(text.split())
    )


def caption(text: str, stable: int, turn: int = 0) -> Caption:
    """A caption of a text."""
    return Caption(turn=turn, rev=1, stable="", partial="", start_s=0.0, end_s=0.0, words=words(text, stable))


def turn_end(text: str, turn: int = 0) -> TurnEnd:
    """The end of a turn with a text."""
    said = words(text, len(text.split()))
    return TurnEnd(turn=turn, text=text, start_s=0.0, end_s=1.4, language="en", reason="silence", words=said)


def test_a_word_comes_from_the_first_step_that_kept_it() -> None:
    """Another case or mark is the same word; another word begins anew, even where it stood before."""
    tracker = OriginTracker()
    tracker.see([caption("the old hill", 0)], Moment(1, 1.0))
    tracker.see([caption("The old, mill", 1)], Moment(2, 2.0))
    tracker.see([caption("The old, hill", 2)], Moment(3, 3.0))
    tracker.see([turn_end("The old, hill.")], Moment(4, 4.0))

    (turn,) = tracker.turns
    assert [origin.first.step for origin in turn.origins] == [1, 1, 3]
    assert [origin.stable for origin in turn.origins] == [Moment(2, 2.0), Moment(3, 3.0), Moment(4, 4.0)]
    assert [origin.reason for origin in turn.origins] == ["2 steps agreed", "3 steps agreed", "end of turn (silence)"]


def test_each_turn_has_origins_of_its_own() -> None:
    """The places of a turn do not remember those of the turn before."""
    tracker = OriginTracker()
    tracker.see([caption("red", 1), turn_end("red")], Moment(1, 1.0))
    tracker.see([turn_end("red", turn=1)], Moment(5, 5.0))

    assert [turn.origins[0].first.step for turn in tracker.turns] == [1, 5]


def test_a_turn_is_printed_with_a_line_for_each_word() -> None:
    """Times are seconds of stream time."""
    tracker = OriginTracker()
    tracker.see([caption("red", 0)], Moment(1, 0.8))
    tracker.see([turn_end("red")], Moment(3, 2.0))

    assert str(tracker.turns[0]).splitlines() == [
        "turn 0, 0.00 to 1.40 s, en, silence: red",
        "     0.00 s  red                  said by step 1 at 0.80 s, stable by step 3 at 2.00 s: end of turn (silence)",
    ]
