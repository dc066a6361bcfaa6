"""What of a result is believed: no speech, unlikely text, repetition loops, words not worth showing yet."""

from __future__ import annotations

from collections.abc import Sequence

from streamer.session.words import SpokenWord
from streamer.step import StepResult
from streamer.text.repetition import LONGEST_PIECE, repetition_start

DOUBTED_S, DOUBTED = 0.2, 0.7
"""A word that ends so near to the newest sound is shown from this confidence on: half of all words that were shown and
then rewritten are not, and the median word is seen 0.05 s later (docs/experiments.md)."""

UNLIKELY = -1.0
"""Mean logarithm of the probability of tokens below which they are doubted, as in the published implementation."""
NO_SPEECH = 0.6
"""Probability of no speech above which an unlikely text is none, as in the published implementation."""


def worth_showing(words: Sequence[SpokenWord], edge_s: float) -> list[SpokenWord]:
    """Words without those at the end that the next sound will probably change; `edge_s` as for `Agreement.certain`."""
    n = len(words)
    while n and words[n - 1].end_s > edge_s - DOUBTED_S and words[n - 1].confidence < DOUBTED:
        n -= 1
    return list(words[:n])


def n_believed(result: StepResult, no_eot_at: int | None) -> tuple[int, bool]:
    """
    Leading tokens of a result that are taken for speech, and whether the rest goes in circles.

    Nothing, where it is no speech; nothing from the second round of a circle on; and of a text that was not allowed to
    end after `no_eot_at` tokens, not what was only said because of that.
    """
    n = len(result.tokens)
    if is_no_speech(result):
        return 0, False
    # a sentence may be said three times, but not until the decoder's bound
    loop = repetition_start(result.tokens, LONGEST_PIECE if result.ended else n)
    if loop is not None:
        return loop, True
    if no_eot_at is not None and is_unlikely(result.logprobs[no_eot_at:]):
        return no_eot_at, False  # voice it may be, words it is none
    return n, False


def is_no_speech(result: StepResult) -> bool:
    """Whether the network hears no speech in the window and doubts what it said of it."""
    return result.no_speech_prob > NO_SPEECH and is_unlikely(result.logprobs)


def is_unlikely(logprobs: Sequence[float]) -> bool:
    """Whether tokens are doubted, by their mean."""
    return bool(logprobs) and sum(logprobs) / len(logprobs) < UNLIKELY
