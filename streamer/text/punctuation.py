"""Punctuation of the world's scripts that turns, subtitles and segments agree on. Pure."""

from __future__ import annotations

import unicodedata

SENTENCE_ENDS = (*".!?…؟։።፧།༎।॥۔။។៕", *"。！？．｡‼⁇⁈⁉")  # noqa: RUF001 - as written in the scripts of the world
"""Characters that end a sentence."""
CLAUSE_ENDS = (*SENTENCE_ENDS, *",;:،؛、，；：､")  # noqa: RUF001 - as written in the scripts of the world
"""Characters that end a sentence or a part of one."""
# fmt: off
ABBREVIATIONS = frozenset({
    "mr", "mrs", "ms", "dr", "prof", "st", "rev", "hon", "gen", "capt", "lt", "sgt", "maj", "gov", "messrs", "vs",
    "sr", "sra", "srta", "dra", "ud", "uds", "mme", "mlle", "mgr", "hr", "frl", "nr", "bzw", "ggf", "evtl", "inkl",
    "approx", "dept",
})
# fmt: on
"""Words that are written with a full stop inside a sentence, in lower case without it. A sentence that ends in one of
them is taken for unfinished, which costs a longer pause and no word; "no" and other words of their own are left out."""
LONGEST_ORDINAL = 2
"""Digits before a full stop that may be an ordinal or the number of an item ("3."), at most; a year is longer."""


def reads_as_finished(text: str) -> bool:
    """
    Whether a text ends with the mark of a sentence, quotes and brackets after it not counted.

    A full stop that belongs to an abbreviation ("Mr."), to an initial ("J.") or to an ordinal ("3.") ends no sentence.
    """
    text = text.rstrip()
    while text and is_closing_mark(text[-1]) and not text.endswith(SENTENCE_ENDS):
        text = text[:-1].rstrip()
    if not text.endswith(SENTENCE_ENDS):
        return False
    return not text.endswith(".") or text.endswith("..") or not _is_abbreviated(text[:-1])


def without_leading_marks(text: str) -> str:
    """A text without the marks at its beginning that belong to a word before it; empty if it holds nothing else."""
    start = next((i for i in range(len(text)) if not _joins_the_left(text, i)), len(text))
    space = text[: len(text) - len(text.lstrip())] if start < len(text) else ""
    return space + text[start:]


def is_closing_mark(character: str) -> bool:
    """Whether a character is a closing quote or bracket, a straight quote included."""
    return character in "\"'" or unicodedata.category(character) in ("Pe", "Pf")


def _joins_the_left(text: str, i: int) -> bool:
    """
    Whether a character at the beginning of a text belongs to the word before it: space, or a mark that opens nothing.

    Straight quotes open as often as they close and stay, as does the dash of a negative number.
    """
    character, following = text[i], text[i + 1 : i + 2]
    if unicodedata.category(character) == "Pd":
        return not following.isdigit()
    return character.isspace() or character in (*CLAUSE_ENDS, "%") or unicodedata.category(character) in ("Pe", "Pf")


def _is_abbreviated(text: str) -> bool:
    """Whether the last word is an abbreviation, an initial or an ordinal, so that a full stop after it is its own."""
    word = text.split()[-1].strip("\"'([“„«") if text.split() else ""
    if word.isdigit():
        return len(word) <= LONGEST_ORDINAL
    if len(word) == 1:
        return word.isupper() and word != "I"
    is_dotted = "." in word and all(len(part) == 1 for part in word.split("."))  # "U.S", "e.g"
    return is_dotted or word.casefold() in ABBREVIATIONS
