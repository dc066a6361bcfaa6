"""Cutting the text of a caption between words, with spaces and marks kept as they are."""

from __future__ import annotations

from collections.abc import Sequence

from streamer.protocol.events import Word


def part_of(text: str, words: Sequence[Word], first: int, last: int | None = None) -> str:
    """
    Return the part of `text` from word `first` up to word `last`, which is not included.

    Words are looked up in the text instead of joined, since not every language puts spaces between words.

    Args:
        text: Text that holds every word, in order.
        words: All words of the text.
        first: Index of a word; the part is empty if it equals the number of words.
        last: Index of a word; None takes the rest of the text.
    """
    starts = starts_of(text, words)
    # marks before the first word belong to it; all others belong to the word before them
    starts = [0, *starts[1:], len(text)] if starts else [0]
    end = len(text) if last is None else starts[min(last, len(starts) - 1)]
    return text[starts[min(first, len(starts) - 1)] : end].strip() if words or not first else ""


def starts_of(text: str, words: Sequence[Word]) -> list[int]:
    """Return the index in `text` of each word; `text` holds every word, in order."""
    starts, at = [], 0
    for word in words:
        at = max(text.find(word.text, at), at)
        starts.append(at)
        at += len(word.text)
    return starts
