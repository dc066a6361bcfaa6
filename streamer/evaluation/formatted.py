"""
Errors of a text with case and punctuation counted, against references that have both. Needs the extra `eval`.

The tokens are words, case kept, and the marks that end a sentence or a clause, each a token of its own: a missing comma
is one error, and so is a small letter. Quotes, brackets and dashes are no tokens, since nobody hears them. In languages
that are written without spaces every character is a token.
"""

from __future__ import annotations

import re
import unicodedata

from streamer.evaluation.scoring import Score, aligned_score
from streamer.text.punctuation import CLAUSE_ENDS
from streamer.text.tokenizer import UNSPACED_LANGUAGES

_MARKS = re.escape("".join(CLAUSE_ENDS))
# a full stop or a comma between digits and an apostrophe or a hyphen between letters belong to their word
_TOKEN = re.compile(rf"\w+(?:(?:['-]|(?<=\d)[.,:](?=\d))\w+)*|[{_MARKS}]")
_CHARACTER = re.compile(rf"\w|[{_MARKS}]")
_SAME = str.maketrans({"\u2019": "'", "\u02bc": "'", "\u2010": "-", "\u2011": "-"})


def formatted_tokens(text: str, language: str) -> list[str]:
    """The words of a text, case kept, and its marks, in order."""
    text = unicodedata.normalize("NFC", text).translate(_SAME).replace("...", "…")
    pattern = _CHARACTER if language in UNSPACED_LANGUAGES else _TOKEN
    return pattern.findall(text)


def is_formatted(text: str) -> bool:
    """Whether a reference has marks, and case where its script has it: plain word lists judge no format."""
    has_case = any(c.isupper() for c in text) or not any(c.islower() for c in text)
    return has_case and any(mark in text for mark in CLAUSE_ENDS)


def formatted_score(language: str, said: str, heard: str) -> Score | None:
    """
    The errors of a transcript against its reference, case and punctuation counted; None if the reference has neither.

    Args:
        language: A code as `en`; empty for an unknown language.
        said: The reference.
        heard: The transcript.
    """
    if not is_formatted(said):
        return None
    return aligned_score(formatted_tokens(said, language), formatted_tokens(heard, language))
