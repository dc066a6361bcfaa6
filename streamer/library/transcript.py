"""Results of the library: words, segments and transcripts as plain values. Pure."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from streamer.session.words import of_whole_characters, spoken_words
from streamer.step import StepResult
from streamer.text.punctuation import SENTENCE_ENDS
from streamer.text.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True, kw_only=True)
class Word:
    """One word with its time in the recording."""

    text: str
    """With its leading space and its punctuation, so that the texts of all words concatenate to the segment's."""
    start_s: float
    end_s: float
    confidence: float
    """Geometric mean of the probabilities of its tokens, 0 to 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """One sentence, or what a window of 30 s holds of it."""

    text: str
    start_s: float
    end_s: float
    language: str
    words: tuple[Word, ...]
    confidence: float
    """Mean of its words' confidences, 0 to 1."""
    no_speech_prob: float
    """Probability that the window holds no speech, 0 to 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Transcript:
    """Text of a recording."""

    text: str
    language: str
    """Code of the language that was given or detected."""
    duration_s: float
    segments: tuple[Segment, ...]
    warnings: tuple[str, ...] = ()
    """What was lost of the recording, and which channels were chosen; empty: nothing to tell."""


def segments_of(
    result: StepResult, tokenizer: Tokenizer, start_s: float, end_s: float, lag_s: float = 0.0
) -> Iterator[Segment]:
    """
    The sentences of one window.

    Args:
        result: Of a step on the window.
        tokenizer: Of the model.
        start_s: Time at which the window begins in the recording, seconds.
        end_s: Time at which the window's audio ends: no word ends later.
        lag_s: Delay of the attention, see `spoken_words`.
    """

    def within(from_s: float, to_s: float) -> tuple[float, float]:
        return min(from_s, end_s), min(to_s, end_s)

    words = [
        Word(text=word.text, start_s=word.said_s[0], end_s=word.said_s[1], confidence=word.confidence)
        for word in spoken_words(of_whole_characters(result, tokenizer), tokenizer, start_s, within, lag_s)
    ]
    for sentence in _sentences(words):
        yield Segment(
            text="".join(word.text for word in sentence).strip(),
            start_s=sentence[0].start_s,
            end_s=sentence[-1].end_s,
            language=result.language,
            words=tuple(sentence),
            confidence=sum(word.confidence for word in sentence) / len(sentence),
            no_speech_prob=result.no_speech_prob,
        )


def _sentences(words: Sequence[Word]) -> Iterator[list[Word]]:
    """Words up to and with each one that ends a sentence."""
    ends = [n for n, word in enumerate(words, 1) if word.text.endswith(SENTENCE_ENDS)]
    cuts = sorted({0, *ends, len(words)})
    yield from (list(words[a:b]) for a, b in itertools.pairwise(cuts))
