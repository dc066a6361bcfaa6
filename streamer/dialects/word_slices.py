"""Words and the text they stand in: cutting captions between words without touching spaces and marks. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from streamer.protocol.events import Word


def part_of(text: str, words: Sequence[Word], first: int, last: int | None = None) -> str:
    """
    The piece of `text` from word `first` up to word `last`, not included, or to its end.

    Words are looked up in the text instead of joined: not every language puts spaces between them.

    Args:
        text: Holds every word, in order.
        words: All words of the text.
        first: Index of a word; with as many as there are, the piece is empty.
        last: Index of a word; None: the rest of the text.
    """
    starts, at = [], 0
    for word in words:
        at = max(text.find(word.text, at), at)
        starts.append(at)
        at += len(word.text)
    # before the first word there is nothing but its own marks, after the last but one its own
    starts = [0, *starts[1:], len(text)] if starts else [0]
    end = len(text) if last is None else starts[min(last, len(starts) - 1)]
    return text[starts[min(first, len(starts) - 1)] : end].strip() if words or not first else ""
