"""Detects repetition loops of an autoregressive decoder. Pure."""

from __future__ import annotations

from collections.abc import Sequence

LONGEST_PIECE = 16
"""Longest repeated piece that is looked for, tokens."""
RUN_AWAY_ROUNDS, RUN_AWAY_TOKENS = 5, 20
"""Repetitions in a row, and tokens in them, after which decoding will not leave the loop by itself. Few enough that the
other rows of the batch do not wait for seconds, and more than people say: a number of zeros, a chorus."""


def repetition_start(tokens: Sequence[int], longest: int = LONGEST_PIECE, repeats: int = 3) -> int | None:
    """
    Index at which a hypothesis begins to repeat itself, after the first occurrence of the piece; None without a loop.

    Args:
        tokens: The hypothesis.
        longest: Longest piece that is looked for, tokens.
        repeats: Occurrences in a row up to the end that make a loop; single tokens need twice as many.
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


def round_length(tokens: Sequence[int], second_round: int) -> int:
    """Tokens of a round, given where `repetition_start` found the second one to begin."""
    rest = len(tokens) - second_round
    return next(
        size
        for size in range(1, second_round + 1)
        if rest % size == 0 and tokens[second_round - size : len(tokens) - size] == tokens[second_round:]
    )


def is_repetition_loop(tokens: Sequence[int]) -> bool:
    """Whether decoding should stop: the text ends in a repetition loop that is long enough to be no speech."""
    n = len(tokens)
    for size in range(1, min(LONGEST_PIECE, n // RUN_AWAY_ROUNDS) + 1):
        length = max(RUN_AWAY_ROUNDS * size, RUN_AWAY_TOKENS)
        if n >= length and tokens[n - length : n - size] == tokens[n - length + size :]:
            return True
    return False


def kept_from(keys: Sequence[str], longest: int, few: int = 2) -> int | None:
    """
    Index from which on words that repeat themselves up to the end are kept: the last whole round and what follows it.

    Args:
        keys: The words, compared as they are; the last round may be incomplete.
        longest: Longest round that is looked for, words.
        few: Rounds of so many words or fewer must be there three times instead of twice: "very, very" is no repetition.

    Returns:
        None if they do not repeat, or if there is nothing before the last whole round.
    """
    n = len(keys)
    for size in range(1, min(longest, n // 2) + 1):
        begin = n
        while begin > size and keys[begin - 1] == keys[begin - 1 - size]:
            begin -= 1
        begin -= size  # of the first round
        if n - begin >= (3 if size <= few else 2) * size:
            return begin + ((n - begin) // size - 1) * size
    return None


def repeats(keys: Sequence[str], longest: int) -> bool:
    """
    Whether words repeat themselves somewhere: a round at once again, or twice more if it has one or two words.

    Args:
        keys: The words, compared as they are.
        longest: Longest round that is looked for, words.
    """
    return any(kept_from(keys[:end], longest) is not None for end in range(2, len(keys) + 1))
