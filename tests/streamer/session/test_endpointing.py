"""Tests of streamer/session/endpointing.py: how long a pause must be by the text before it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.protocol.options import MAX_ENDPOINT_MS, PAUSE_MS
from streamer.session.endpointing import FINISHED_PAUSE_MS, LONG_PAUSE_MS, SURE, ending_pause_ms


@given(text=st.text(max_size=30), probability=st.floats(0, 1))
def test_every_turn_ends_at_some_pause(text: str, probability: float) -> None:
    """No text keeps a turn open beyond the long pause, and none ends at less than a pause."""
    assert PAUSE_MS <= ending_pause_ms(text, probability) <= LONG_PAUSE_MS <= MAX_ENDPOINT_MS


@given(text=st.text(max_size=30), surer=st.floats(0, 1), less_sure=st.floats(0, 1))
def test_a_surer_mark_needs_no_longer_pause(text: str, surer: float, less_sure: float) -> None:
    """The decoder writes marks behind clauses too, but is less sure of them."""
    less_sure, surer = sorted((less_sure, surer))
    assert ending_pause_ms(text, surer) <= ending_pause_ms(text, less_sure)


@pytest.mark.parametrize(
    ("text", "probability", "pause_ms"),
    [
        ("", 0.0, PAUSE_MS),
        (" So it is.", 1.0, FINISHED_PAUSE_MS),
        (" So it is.", SURE, FINISHED_PAUSE_MS),
        (" So it is", 1.0, LONG_PAUSE_MS),
        (" So it is,", 1.0, LONG_PAUSE_MS),
        (" So said Mr.", 1.0, LONG_PAUSE_MS),
    ],
)
def test_a_finished_sentence_needs_a_short_pause(text: str, probability: float, pause_ms: int) -> None:
    """Anything else needs a long one; a turn without words holds nobody up."""
    assert ending_pause_ms(text, probability) == pause_ms
