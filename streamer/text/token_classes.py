"""Tokens by their text: those that make the word before them longer, small letters, and commas. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from streamer.text.punctuation import CLAUSE_ENDS, SENTENCE_ENDS

JOINING = "-'\u2019_&/"
"""Marks that occur inside words."""
PUNCTUATION_BYTES = (b"\xe2\x80", b"\xe3\x80", b"\xc2")
"""First bytes of marks that have no token of their own: dashes and quotes, CJK marks, Latin-1."""


def growing_tokens(base_tokens: Sequence[bytes]) -> frozenset[int]:
    """
    Tokens that after a word make it a different word: they begin with a letter, a digit, a hyphen or an apostrophe.

    Args:
        base_tokens: Bytes of every token, in id order.
    """
    return frozenset(token for token, data in enumerate(base_tokens) if _grows_a_word(data))


def small_letter_tokens(base_tokens: Sequence[bytes]) -> frozenset[int]:
    """
    Tokens whose first character after spaces is a small letter.

    Args:
        base_tokens: Bytes of every token, in id order.
    """
    texts = (data.decode("utf-8", errors="replace") for data in base_tokens)
    return frozenset(token for token, text in enumerate(texts) if text.lstrip()[:1].islower())


def comma_tokens(base_tokens: Sequence[bytes]) -> frozenset[int]:
    """
    Tokens that are nothing but marks that end a part of a sentence, and not the sentence.

    Args:
        base_tokens: Bytes of every token, in id order.
    """
    commas = frozenset(CLAUSE_ENDS) - frozenset(SENTENCE_ENDS)
    texts = (data.decode("utf-8", errors="replace") for data in base_tokens)
    return frozenset(token for token, text in enumerate(texts) if text and commas.issuperset(text))


def _grows_a_word(data: bytes) -> bool:
    text = data.decode("utf-8", errors="replace")
    if not data or text[0].isspace():
        return False
    if text[0] == "\ufffd":  # part of a character: allowed only if the character is a mark
        return not data.startswith(PUNCTUATION_BYTES)
    return text[0] in JOINING or any(character.isalnum() for character in text)
