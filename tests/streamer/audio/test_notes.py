"""Tests of streamer.audio.notes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from streamer.audio.notes import MAX_PLACES, Losses, Note


def told(*losses: tuple[float, float]) -> list[str]:
    """Notes of losses at times, of lengths."""
    found = Losses()
    for at_s, lost_s in losses:
        found.add(at_s, lost_s)
    return [str(note) for note in found.notes()]


def test_losses_close_to_each_other_are_one_place() -> None:
    """With their lengths added; others are places of their own."""
    assert told((1.0, 0.1), (1.5, 0.2), (9.0, 0.0)) == [
        "at 1.0 s: 0.3 s of sound could not be decoded",
        "at 9.0 s: sound could not be decoded",
    ]


def test_different_causes_are_told_apart() -> None:
    """Also at one place."""
    losses = Losses()
    losses.add(1.0, 0.1)
    losses.add(1.0, 0.1, "is missing")
    assert [note.text for note in losses.notes()] == [
        "0.1 s of sound could not be decoded",
        "0.1 s of sound is missing",
    ]


def test_a_note_on_the_whole_has_no_place() -> None:
    """It is the text alone."""
    assert str(Note("channel 1 is silent")) == "channel 1 is silent"


def test_places_beyond_the_first_are_counted_together() -> None:
    """With how much was lost there."""
    notes = told(*((10.0 * n, 1.0) for n in range(MAX_PLACES + 3)))
    assert len(notes) == MAX_PLACES + 1
    assert notes[-1] == "3 s of sound was lost at 3 more places"


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=300))
def test_many_places_are_counted(gaps: list[float]) -> None:
    """However many there are, the notes are few, and none is forgotten."""
    losses, at_s = Losses(), 0.0
    for gap in gaps:
        at_s += gap
        losses.add(at_s, 1.0)
    notes = losses.notes()
    assert 1 <= len(notes) <= MAX_PLACES + 1
    if len(notes) > MAX_PLACES:
        assert notes[-1].at_s is None
        assert "more places" in notes[-1].text
