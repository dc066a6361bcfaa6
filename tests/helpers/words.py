"""Hand-made words and hypotheses, with the real English tokenizer."""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Sequence
from pathlib import Path

import whisper

from streamer.session.words import SpokenWord
from streamer.step import StepResult
from streamer.weights.vocabulary import build_tokenizer

TOKENIZER = build_tokenizer(Path(whisper.__file__).parent / "assets" / "gpt2.tiktoken", 51864)


def word(text: str, start_s: float = 0.0, end_s: float | None = None, confidence: float = 0.5) -> SpokenWord:
    """A word as decoded; with no end, it lasts 0.3 s."""
    end_s = start_s + 0.3 if end_s is None else end_s
    return SpokenWord(
        tokens=_tokens(text),
        text=text,
        start_s=start_s,
        end_s=end_s,
        said_s=(start_s, end_s),
        confidence=confidence,
    )


@functools.cache
def _tokens(text: str) -> tuple[int, ...]:
    return tuple(TOKENIZER.encode(text))


def phrase(text: str, start_s: float = 0.0, word_s: float = 0.4) -> list[SpokenWord]:
    """The words of a text, one each `word_s` seconds; marks that stand alone are words of their own."""
    pieces = re.findall(r"\s*\S+", text)
    return [word(piece, start_s + i * word_s, start_s + (i + 1) * word_s) for i, piece in enumerate(pieces)]


def result(
    words: Sequence[SpokenWord] = (),
    window_start_s: float = 0.0,
    *,
    logprob: float = math.log(0.5),
    no_speech_prob: float = 0.0,
    language: str = "en",
    ended: bool = True,
) -> StepResult:
    """What a step that heard these words after its prefix returns; tokens share their word's time evenly."""
    tokens, starts = [], []
    for each in words:
        length_s = (each.end_s - each.start_s) / max(1, len(each.tokens))
        tokens += each.tokens
        starts += [each.start_s + i * length_s - window_start_s for i in range(len(each.tokens))]
    end_s = words[-1].end_s - window_start_s if words else 0.0
    return StepResult(
        tokens=tuple(tokens),
        logprobs=(logprob,) * len(tokens),
        starts_s=(*starts, end_s),
        n_verified=0,
        ended=ended,
        no_speech_prob=no_speech_prob,
        language=language,
    )


def plain(text: str) -> list[str]:
    """Words without case and marks: what the protocol's promises are about."""
    return re.sub(r"[^\w]+", " ", text.casefold()).split()
