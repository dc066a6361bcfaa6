"""Checks of a step's result: no speech, unlikely text, repetition loops, words too doubtful to show. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from streamer.session.words import SpokenWord
from streamer.step import StepResult
from streamer.text.repetition import LONGEST_PIECE, Loop, find_loop

DOUBTED_S, DOUBTED = 0.2, 0.7
"""A word that ends within `DOUBTED_S` seconds of the newest audio is shown from confidence `DOUBTED` on: this avoids
half of the rewrites of shown words, and the median word appears 0.05 s later (docs/experiments.md)."""

SHORTEST_TOKEN_S, EVEN = 0.12, 0.5
"""Least length of a round that was said, seconds for each of its tokens, and as a part of the median round: in a loop
of the decoder the attention stands still, and many rounds share one instant."""
UNLIKELY = -1.0
"""Mean log probability below which tokens are unlikely, as in the published implementation."""
NO_SPEECH = 0.6
"""Probability of no speech above which an unlikely text is dropped, as in the published implementation."""


def worth_showing(words: Sequence[SpokenWord], edge_s: float) -> list[SpokenWord]:
    """The words without doubtful ones at the end; `edge_s` is the end of the audio seen, stream time."""
    n = len(words)
    while n and words[n - 1].end_s > edge_s - DOUBTED_S and words[n - 1].confidence < DOUBTED:
        n -= 1
    return list(words[:n])


def n_believed(result: StepResult, no_eot_at: int | None) -> tuple[int, bool]:
    """
    Number of leading tokens of a result that are believed, and whether a repetition loop follows them.

    No token if the window holds no speech; no token from the second round of a loop on; and if the text was not allowed
    to end after `no_eot_at` tokens, no token after those if they are unlikely.
    """
    n = len(result.tokens)
    if is_no_speech(result):
        return 0, False
    # a speaker may repeat a sentence, but not until the decoder reaches its bound
    loop = find_loop(result.tokens, LONGEST_PIECE if result.ended else n)
    if loop is not None and not (result.ended and is_said(result, loop)):
        return loop.second_round, True
    if no_eot_at is not None and is_unlikely(result.logprobs[no_eot_at:]):
        return no_eot_at, False  # voice perhaps, but no words
    return n, False


def is_said(result: StepResult, loop: Loop) -> bool:
    """
    Whether each round of a repetition that ends a text takes about as long as the others, as when somebody says it.

    Args:
        result: Of the step.
        loop: The repetition.
    """
    size = loop.size
    begins = range(loop.second_round - size, len(result.tokens), size)
    lengths_s = [result.starts_s[at + size] - result.starts_s[at] for at in begins]
    return min(lengths_s) >= max(SHORTEST_TOKEN_S * size, EVEN * statistics.median(lengths_s))


def is_no_speech(result: StepResult) -> bool:
    """Whether the network detects no speech in the window and its text is unlikely."""
    return result.no_speech_prob > NO_SPEECH and is_unlikely(result.logprobs)


def is_unlikely(logprobs: Sequence[float]) -> bool:
    """Whether tokens are unlikely by their mean log probability; False for none."""
    return bool(logprobs) and sum(logprobs) / len(logprobs) < UNLIKELY
