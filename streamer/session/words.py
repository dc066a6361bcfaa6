"""
The words of a hypothesis: tokens, text, times in stream time, confidence. Pure.
"""

from __future__ import annotations

import functools
import itertools
import math
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from streamer.step import StepResult
from streamer.text.tokenizer import Tokenizer

LONGEST_S = 1.5
"""Longest time that the last word of a text is taken to last, seconds. The attention of a word behind which the decoder
ends the text, or of the mark behind it, may lie far in what is said next."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SpokenWord:
    """One word of a hypothesis."""

    tokens: tuple[int, ...]
    text: str
    """With its leading space and its punctuation, as decoded."""
    start_s: float
    """Stream time at which the attention arrives at the word."""
    end_s: float
    """Stream time at which the attention leaves the word."""
    said_s: tuple[float, float]
    """Start and end of the word as clients see them, stream time."""
    confidence: float
    """Geometric mean of its tokens' probabilities."""

    @property
    def key(self) -> str:
        """Letters and digits, case folded: hypotheses agree on a word if its keys are equal. Empty for marks alone."""
        return key_of(self.text)


def of_whole_characters(result: StepResult, tokenizer: Tokenizer) -> StepResult:
    """The result without tokens of characters that are cut off or damaged: no word shows a part of a character."""
    kept = tokenizer.whole_characters(result.tokens)
    if len(kept) == len(result.tokens):
        return result
    end_s = result.starts_s[kept[-1] + 1 if kept else 0]
    return replace(
        result,
        tokens=tuple(result.tokens[i] for i in kept),
        logprobs=tuple(result.logprobs[i] for i in kept),
        starts_s=(*(result.starts_s[i] for i in kept), end_s),
    )


def spoken_words(
    result: StepResult,
    tokenizer: Tokenizer,
    window_start_s: float,
    trimmed: Callable[[float, float], tuple[float, float]],
    lag_s: float = 0.0,
) -> list[SpokenWord]:
    """
    The words of a step's result in stream time.

    Args:
        result: Of the step, `of_whole_characters`; its times are relative to the window.
        tokenizer: Groups tokens into words.
        window_start_s: Stream time of the window's first frame.
        trimmed: Trims silence from a span of stream time: the attention adds the silence around a word to the word.
        lag_s: Delay of the attention, from the beginning of a word to its arrival there, seconds.
    """

    def span(start_s: float, end_s: float) -> tuple[float, float]:
        from_s, to_s = trimmed(start_s, end_s)
        return from_s, max(from_s, to_s)

    words, at = [], 0
    for group in tokenizer.split_words(result.tokens, result.language):
        arrives_s, leaves_s = (window_start_s + result.starts_s[n] for n in (at, at + len(group)))
        start_s, end_s = span(arrives_s, leaves_s)
        logprobs = result.logprobs[at : at + len(group)]
        words.append(
            SpokenWord(
                tokens=tuple(group),
                text=tokenizer.decode(group),
                start_s=start_s,
                end_s=end_s,
                said_s=span(max(window_start_s, arrives_s - lag_s), leaves_s - lag_s),
                confidence=math.exp(sum(logprobs) / len(logprobs)),
            )
        )
        at += len(group)
    return words


def split_final_marks(word: SpokenWord, tokenizer: Tokenizer) -> list[SpokenWord]:
    """Split the punctuation at the end off a word: the next words may still change it. One part if there is none."""
    n = len(word.tokens)
    while n and all(_is_mark(c) for c in tokenizer.decode(word.tokens[n - 1 : n]).strip()):
        n -= 1
    if n in (0, len(word.tokens)):
        return [word]
    stem, marks = word.tokens[:n], word.tokens[n:]
    return [
        replace(word, tokens=stem, text=tokenizer.decode(stem)),
        replace(word, tokens=marks, text=tokenizer.decode(marks), start_s=word.end_s, said_s=(word.said_s[1],) * 2),
    ]


def said_until_s(words: Sequence[SpokenWord], otherwise_s: float) -> float:
    """
    Stream time up to which a text accounts for the voice: marks account for none, and no word for `LONGEST_S` or more.

    Args:
        words: Of the text.
        otherwise_s: For a text without words.
    """
    last = next((word for word in reversed(words) if word.key), None)
    return min(last.end_s, last.start_s + LONGEST_S) if last else otherwise_s


def leading(words: Sequence[SpokenWord], n_tokens: int) -> list[SpokenWord]:
    """The words that lie wholly within the first `n_tokens` tokens."""
    ends = itertools.accumulate(len(word.tokens) for word in words)
    return [word for word, end in zip(words, ends, strict=True) if end <= n_tokens]


@functools.lru_cache(maxsize=4096)
def key_of(text: str) -> str:
    """As `SpokenWord.key`; kept, since words are compared with each other many times in each step."""
    return "".join(c for c in text.casefold() if not _is_mark(c))


def _is_mark(character: str) -> bool:
    return not (character.isalnum() or unicodedata.category(character).startswith(("M", "S")))
