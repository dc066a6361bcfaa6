"""Detects repetition loops of an autoregressive decoder. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

LONGEST_PIECE = 16
"""Longest repeated piece that is looked for, tokens."""
LOOP_ROUNDS = 3
"""Times in a row that a piece makes a loop; a single token does twice as often."""
RUN_AWAY_ROUNDS, RUN_AWAY_TOKENS = 5, 20
"""Repetitions in a row, and tokens in them, after which decoding will not leave the loop by itself. Few enough that the
other rows of the batch do not wait for seconds, and more than people say: a number of zeros, a chorus."""
FEW_WORDS = 2
"""Words of a round that must be there three times instead of twice: "very, very" is no repetition."""


class Loop(NamedTuple):
    """A piece of a hypothesis that comes again and again up to its end."""

    second_round: int
    """Index at which it comes again for the first time."""
    size: int
    """Tokens of the piece."""


def find_loop(tokens: Sequence[int], longest: int = LONGEST_PIECE) -> Loop | None:
    """
    The repetition loop in which a hypothesis ends; None if it ends in none.

    Args:
        tokens: The hypothesis.
        longest: Longest piece that is looked for, tokens.
    """
    n = len(tokens)
    for size in range(1, min(longest, n // LOOP_ROUNDS) + 1):
        piece = tokens[n - size :]
        count = 1
        while n - (count + 1) * size >= 0 and tokens[n - (count + 1) * size : n - count * size] == piece:
            count += 1
        if count >= (2 * LOOP_ROUNDS if size == 1 else LOOP_ROUNDS):
            return Loop(n - (count - 1) * size, size)
    return None


def is_repetition_loop(tokens: Sequence[int]) -> bool:
    """Whether decoding should stop: the text ends in a repetition loop that is long enough to be no speech."""
    n = len(tokens)
    for size in range(1, min(LONGEST_PIECE, n // RUN_AWAY_ROUNDS) + 1):
        length = max(RUN_AWAY_ROUNDS * size, RUN_AWAY_TOKENS)
        if n >= length and tokens[n - length : n - size] == tokens[n - length + size :]:
            return True
    return False


def last_round_start(keys: Sequence[str], longest: int) -> int | None:
    """
    Where the last whole round begins of words that repeat themselves up to the end; None if they do not.

    Args:
        keys: The words, compared as they are; the last round may be incomplete.
        longest: Longest round that is looked for, words.
    """
    n = len(keys)
    for size in range(1, min(longest, n // 2) + 1):
        begin = n
        while begin > size and keys[begin - 1] == keys[begin - 1 - size]:
            begin -= 1
        begin -= size  # of the first round
        if n - begin >= (3 if size <= FEW_WORDS else 2) * size:
            return begin + ((n - begin) // size - 1) * size
    return None


def repeats(keys: Sequence[str], longest: int) -> bool:
    """
    Whether words repeat themselves somewhere: a round at once again, or twice more if it has one or two words.

    Args:
        keys: The words, compared as they are.
        longest: Longest round that is looked for, words.
    """
    return any(last_round_start(keys[:end], longest) is not None for end in range(2, len(keys) + 1))
