"""
Endpointing: how long a pause must be to end a turn, by the text before it. Pure.

Where a client names an endpoint, every pause of that length ends the turn. Where it does not, turns are sentences: a
short pause ends a turn whose text reads as finished, and only a long one ends any other turn.
"""

from __future__ import annotations

from streamer.protocol.options import PAUSE_MS
from streamer.text.punctuation import reads_as_finished

LONG_PAUSE_MS = 2000
"""Silence that ends a turn in the middle of a sentence, in milliseconds."""
DOUBTFUL_PAUSE_MS = 1500
"""Silence that ends a turn whose last mark is doubtful, in milliseconds."""
FINISHED_PAUSE_MS = 700
"""Silence that ends a turn that reads as finished, in milliseconds."""
SURE = 0.85
"""Probability of the mark at the end from which on the text reads as finished beyond doubt."""


def ending_pause_ms(text: str, mark_probability: float) -> int:
    """
    Silence that ends a turn where the client names no endpoint, in milliseconds.

    Args:
        text: Of the turn so far, words that may still change included.
        mark_probability: Of the last token of the text, 0 to 1: the decoder writes full stops behind clauses too, and
            is less sure of those.
    """
    if not text.strip():
        return PAUSE_MS
    if not reads_as_finished(text):
        return LONG_PAUSE_MS
    return FINISHED_PAUSE_MS if mark_probability >= SURE else DOUBTFUL_PAUSE_MS
