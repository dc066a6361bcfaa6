"""
Bounds of what clients may send, in every protocol and dialect: numbers in the range of this world, and key terms.

Each field of a client message that holds a number takes its type from here, or names its own range. A number without a
range is a fault: 1e305 seconds of stream time overflow further in, and an integer of 30 digits cannot be answered.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated

from msgspec import Meta

MAX_STREAM_S = 1e8
"""Latest stream time, in seconds: three years. Sample counts at 48 kHz and milliseconds are still exact there."""
MAX_INTEGER = 2**63 - 1
"""Largest integer of a message: that of 64 bits with a sign, which every JSON library can write."""
MAX_KEYTERMS = 256
"""Most key terms of one session."""
MAX_KEYTERM_CHARS = 128
"""Longest key term, in characters."""
MAX_KEYTERMS_BYTES = 8192
"""Longest list of key terms, as UTF-8: 256 names of 32 letters. Tokens, and so memory and time, grow with bytes."""

MAX_PAST_TURNS = 2000
"""Most past turns of a room that a client tells, and that a room keeps: several hours of talk, less than a megabyte."""

StreamTime = Annotated[float, Meta(ge=0, le=MAX_STREAM_S)]
"""Seconds of stream time: finite, and within `MAX_STREAM_S`."""
TurnNumber = Annotated[int, Meta(ge=0, le=2**31)]
"""Number of a turn."""
Integer = Annotated[int, Meta(ge=-MAX_INTEGER - 1, le=MAX_INTEGER)]
"""An integer without a range of its own."""
Number = Annotated[float, Meta(ge=-MAX_INTEGER, le=MAX_INTEGER)]
"""A number without a range of its own: finite."""


def keyterms_problem(terms: Sequence[str]) -> str | None:
    """Say what is wrong with a list of key terms and what is allowed; None if it is within the bounds."""
    if len(terms) > MAX_KEYTERMS:
        return f"{len(terms)} key terms: expected at most {MAX_KEYTERMS}"
    longest = max(map(len, terms), default=0)
    if longest > MAX_KEYTERM_CHARS:
        return f"a key term of {longest} characters: expected at most {MAX_KEYTERM_CHARS}"
    n_bytes = keyterms_bytes(terms)
    if n_bytes > MAX_KEYTERMS_BYTES:
        return f"key terms of {n_bytes} bytes together: expected at most {MAX_KEYTERMS_BYTES}"
    return None


def fitting_keyterms(terms: Iterable[str]) -> tuple[str, ...]:
    """Return the key terms that fit into the bounds, in order, for dialects whose lists are hints without a limit."""
    fitting: list[str] = []
    n_bytes = 0
    for term in terms:
        if len(fitting) == MAX_KEYTERMS:
            break
        if len(term) <= MAX_KEYTERM_CHARS and n_bytes + _n_bytes(term) <= MAX_KEYTERMS_BYTES:
            fitting.append(term)
            n_bytes += _n_bytes(term)
    return tuple(fitting)


def keyterms_bytes(terms: Iterable[str]) -> int:
    """Return the length of a list of key terms in bytes of UTF-8."""
    return sum(map(_n_bytes, terms))


def _n_bytes(term: str) -> int:
    # half a surrogate pair is a character of Python's text, but not of UTF-8
    return len(term.encode(errors="surrogatepass"))
