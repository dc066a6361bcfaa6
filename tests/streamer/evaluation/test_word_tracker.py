"""Tests of streamer/evaluation/word_tracker.py."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from streamer.evaluation.word_tracker import WordChanges, WordTracker
from streamer.protocol.events import Word


def words(text: str, stable: int = 0) -> list[Word]:
    """One word for each letter, the first ones stable."""
    return [Word(text=c, start_s=0.0, end_s=0.1, confidence=0.5, stable=i < stable) for i, c in enumerate(text)]


def changes(added: range, settled: range, replaced: tuple[int, ...] = (), withdrawn: range = range(0)) -> WordChanges:
    """Where one event differs from the one before."""
    return WordChanges(added=added, replaced=replaced, withdrawn=withdrawn, settled=settled)


def test_places_are_added_and_settled_once() -> None:
    """Each with the event that shows the word first, and the event that makes it stable."""
    tracker = WordTracker()

    assert tracker.see(0, words("ab")) == changes(added=range(2), settled=range(0))
    assert tracker.see(0, words("abc", stable=2)) == changes(added=range(2, 3), settled=range(2), withdrawn=range(3, 2))
    assert tracker.see(0, words("abc", stable=3)).settled == range(2, 3)


def test_replaced_and_withdrawn_places_are_told_apart() -> None:
    """A place that was withdrawn and comes again is added again."""
    tracker = WordTracker()
    tracker.see(0, words("abc"))

    found = tracker.see(0, words("ax"))

    assert (found.replaced, list(found.withdrawn), list(found.added)) == ((1,), [2], [])
    assert list(tracker.see(0, words("axc")).added) == [2]


def test_a_new_turn_starts_with_nothing_shown() -> None:
    """The words of the turn before are not withdrawn."""
    tracker = WordTracker()
    tracker.see(0, words("abc", stable=3))

    found = tracker.see(1, words("a"))

    assert (list(found.added), found.replaced, list(found.withdrawn), list(found.settled)) == ([0], (), [], [])


def test_a_key_decides_what_is_another_word() -> None:
    """Here case makes none."""
    tracker = WordTracker(str.casefold)
    tracker.see(0, words("a"))

    assert tracker.see(0, words("A")).replaced == ()
    assert tracker.see(0, words("B")).replaced == (0,)


@given(texts=st.lists(st.text("ab", max_size=5), min_size=1, max_size=8))
def test_changes_add_up_to_what_is_shown(texts: list[str]) -> None:
    """Whoever keeps what is added and replaced and drops what is withdrawn has the words of the last event."""
    tracker, kept = WordTracker(), {}
    for text in texts:
        found = tracker.see(0, words(text))
        kept |= {i: text[i] for i in [*found.added, *found.replaced]}
        for i in found.withdrawn:
            del kept[i]

    assert "".join(kept[i] for i in sorted(kept)) == texts[-1]
