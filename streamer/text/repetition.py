"""Texts that go in circles, as those of an autoregressive decoder may. Pure: tokens in, places out."""

from __future__ import annotations

from collections.abc import Sequence

LONGEST_PIECE = 16
"""Longest piece, tokens, that is a loop wherever a text ends with three rounds of it."""
RUN_AWAY_ROUNDS, RUN_AWAY_TOKENS = 5, 20
"""Rounds in a row, and tokens of them, after which a text will not leave the circle by itself. Few enough that the
other rows of its batch do not wait for seconds, and more than anybody says: a number of zeros, a chorus."""


def repetition_start(tokens: Sequence[int], longest: int = LONGEST_PIECE, repeats: int = 3) -> int | None:
    """
    Where a hypothesis begins to go in circles: the index after the first occurrence of the repeated piece.

    Args:
        tokens: The hypothesis.
        longest: Longest piece looked for, tokens.
        repeats: Occurrences in a row, up to the end, that make a loop; single tokens need twice as many.
    """
    n = len(tokens)
    for size in range(1, min(longest, n // repeats) + 1):
        piece = tokens[n - size :]
        count = 1
        while n - (count + 1) * size >= 0 and tokens[n - (count + 1) * size : n - count * size] == piece:
            count += 1
        if count >= (2 * repeats if size == 1 else repeats):
            return n - (count - 1) * size
    return None


def is_repetition_loop(tokens: Sequence[int]) -> bool:
    """Whether a text that is still being said should be stopped: it has gone in circles for long."""
    n = len(tokens)
    for size in range(1, min(LONGEST_PIECE, n // RUN_AWAY_ROUNDS) + 1):
        length = max(RUN_AWAY_ROUNDS * size, RUN_AWAY_TOKENS)
        if n >= length and tokens[n - length : n - size] == tokens[n - length + size :]:
            return True
    return False
