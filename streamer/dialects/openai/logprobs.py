"""
Log probabilities in OpenAI's format, from the confidences of words.

OpenAI tells one for each token of its model; here a token is a word with the space before it and the marks behind it.
Joined, the tokens are the text.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import msgspec

from streamer.dialects.word_slices import starts_of
from streamer.protocol.events import Caption, TurnEnd, Word, words_of
from streamer.text.joining import space_between

LEAST_CONFIDENCE = 5e-4
"""At least half of the rounding step of confidences, since the logarithm of 0 is infinite."""


class LogProb(msgspec.Struct, frozen=True, kw_only=True):
    """One token."""

    token: str
    logprob: float
    """Natural logarithm of the confidence of the word."""
    bytes: tuple[int, ...]
    """The token in UTF-8."""


def log_confidence(word: Word) -> float:
    """Return the natural logarithm of the confidence of a word."""
    return math.log(max(word.confidence, LEAST_CONFIDENCE))


def logprobs(text: str, words: Sequence[Word]) -> list[LogProb]:
    """Return one token for each word; joined, they are `text`, which holds every word in order."""
    starts = [0, *starts_of(text, words)[1:], len(text)]
    tokens = (text[starts[i] : starts[i + 1]] for i in range(len(words)))
    return [
        LogProb(token=token, logprob=log_confidence(word), bytes=tuple(token.encode()))
        for token, word in zip(tokens, words, strict=True)
    ]


def logprobs_of(turns: Iterable[TurnEnd]) -> list[LogProb]:
    """Return the tokens of all turns; joined, they are the transcript."""
    tokens: list[LogProb] = []
    before = ""
    for turn in turns:
        space = space_between(before, turn.text) if before else ""
        tokens += logprobs(f"{space}{turn.text}", words_of(turn))
        before = turn.text or before
    return tokens


class DeltaLogProbs:
    """The tokens of deltas, which append the stable text of captions and turns."""

    def __init__(self) -> None:
        self._n_words = 0
        """Words of the open turn that deltas have told."""

    def of(self, delta: str, event: Caption | TurnEnd) -> list[LogProb]:
        """
        Return the tokens of `delta`, the text that an event appends.

        A mark in front that belongs to the last word of the delta before is a part of the first token; a delta of
        marks alone has no tokens.
        """
        words = [word for word in words_of(event) if word.stable]
        new = words[self._n_words :] if delta else []
        self._n_words = 0 if isinstance(event, TurnEnd) else self._n_words + len(new)
        return logprobs(delta, new)
