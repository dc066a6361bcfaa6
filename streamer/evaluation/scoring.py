"""
Word errors of a text against its reference, under the normalisers of Whisper. Needs the extra `eval`.

In languages that are written without spaces every character is a word, so the rates are character error rates.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from streamer.errors import ConfigError
from streamer.extras import pip_install
from streamer.text.tokenizer import UNSPACED_LANGUAGES

if TYPE_CHECKING:
    from jiwer import AlignmentChunk


@dataclass(frozen=True, slots=True)
class Difference:
    """One word error."""

    at: int
    """Index in the words of the normalised reference."""
    said: str
    """The word of the reference; empty for an insertion."""
    heard: str
    """The word of the transcript; empty for a deletion."""

    def __str__(self) -> str:
        return f"{self.said or '·'}→{self.heard or '·'}"


@dataclass(frozen=True, slots=True)
class Score:
    """The word errors of one recording."""

    reference: str
    """Normalised."""
    hypothesis: str
    """Normalised."""
    words: int
    """In the reference."""
    differences: tuple[Difference, ...]

    @property
    def errors(self) -> int:
        """Substitutions, deletions and insertions; 0 for an empty reference."""
        return len(self.differences)


Normaliser = Callable[[str], str]
Scorer = Callable[[str, str, str], Score]
"""(language, reference, transcript) -> score."""


def text_normaliser() -> Callable[[str], Normaliser]:
    """
    A function that gives the normaliser of a language: the published English one for English, else the published basic
    one, which splits characters in languages that are written without spaces.

    Raises:
        ConfigError: The extra `eval` is not installed.
    """
    try:
        import jiwer  # noqa: F401 - if it is missing, say so before anything is played
        from whisper_normalizer.basic import BasicTextNormalizer
        from whisper_normalizer.english import EnglishTextNormalizer
    except ImportError:
        raise ConfigError(f"word errors need packages that are not installed: {pip_install('eval')}") from None
    english, basic, characters = EnglishTextNormalizer(), BasicTextNormalizer(), BasicTextNormalizer(split_letters=True)

    def of(language: str) -> Normaliser:
        normaliser: Normaliser = english if language == "en" else basic
        return characters if language in UNSPACED_LANGUAGES else normaliser

    return of


def word_scorer() -> Scorer:
    """
    A function that counts the word errors of a transcript against its reference.

    Raises:
        ConfigError: The extra `eval` is not installed.
    """
    normaliser = text_normaliser()

    def score(language: str, said: str, heard: str) -> Score:
        normalise = normaliser(language)
        reference, hypothesis = normalise(said).strip(), normalise(heard).strip()
        if not reference:
            return Score("", hypothesis, 0, ())
        return aligned_score(reference.split(), hypothesis.split())

    return score


def aligned_score(said: list[str], heard: list[str]) -> Score:
    """
    The errors of words against the words of a reference, which may be any tokens without spaces.

    Args:
        said: The reference, at least one word.
        heard: The transcript.
    """
    import jiwer

    aligned = jiwer.process_words(" ".join(said), " ".join(heard))
    found = [d for chunk in aligned.alignments[0] for d in _differences(chunk, said, heard)]
    return Score(" ".join(said), " ".join(heard), len(said), tuple(found))


def _differences(chunk: AlignmentChunk, said: list[str], heard: list[str]) -> list[Difference]:
    match chunk.type:
        case "substitute":
            places = range(chunk.ref_start_idx, chunk.ref_end_idx)
            return [Difference(i, said[i], heard[chunk.hyp_start_idx + n]) for n, i in enumerate(places)]
        case "delete":
            return [Difference(i, said[i], "") for i in range(chunk.ref_start_idx, chunk.ref_end_idx)]
        case "insert":
            return [Difference(chunk.ref_start_idx, "", w) for w in heard[chunk.hyp_start_idx : chunk.hyp_end_idx]]
    return []
