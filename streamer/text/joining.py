"""
Joining the texts of turns: by a space, but not in Chinese and Japanese, which are written without. Pure.

Thai, Lao, Khmer, Burmese and Tibetan put no spaces between words either, but one where a sentence or a part of it ends,
as after a pause: their turns are joined by one.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable

_CHINESE_OR_JAPANESE = re.compile(
    "[\u2e80-\u303f\u3041-\u312f\u31a0-\u4dbf\u4e00-\u9fff\uf900-\ufaff\ufe30-\ufe4f\uff01-\uff9f\uffe0-\uffe6"
    "\U00020000-\U0003fffd]"
)
"""Han, kana and bopomofo, and the marks that are as wide as they are."""


def joined(texts: Iterable[str]) -> str:
    """Texts one behind the other, with a space between two where their scripts have one; empty ones are left out."""
    said = [text for text in texts if text]
    return "".join([*said[:1], *(f"{space_between(*pair)}{pair[1]}" for pair in itertools.pairwise(said))])


def space_between(before: str, text: str) -> str:
    """
    What joins a text to the one before it: a space, or nothing.

    It depends on the first character of `text` alone, so that it is known when a text begins. Digits and marks belong
    to every script: the letters before them decide.

    Args:
        before: Empty at the beginning of a transcript, where `text` decides.
        text: At least one character.
    """
    last = next((char for char in reversed(before) if char.isalpha() or _is_unspaced(char)), text[:1])
    first = text[:1]
    is_unspaced = _is_unspaced(last) and (_is_unspaced(first) or not (last.isalpha() and first.isalpha()))
    return "" if is_unspaced else " "


def _is_unspaced(char: str) -> bool:
    return _CHINESE_OR_JAPANESE.match(char) is not None
