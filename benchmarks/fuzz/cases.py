"""Cases made of valid input by mutation, and the loop that tries them."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from streamer.errors import StreamerError

Check = Callable[[bytes, random.Random], None]

TOKENS = [b"", b"null", b"-1", b"1e999", b'"', b"{", b"]", b"\\ud800", b"\x00", b"\xff", b"9" * 30, b"[" * 2000]


@dataclass(frozen=True, slots=True)
class Parser:
    """A parser under test."""

    name: str
    inputs: Sequence[bytes]
    """Valid inputs, from which cases are made."""
    check: Check
    """Parses a case and checks the result."""
    share: float = 1.0
    """Part of the cases that are asked for: slow parsers get fewer."""


def mutated(data: bytes, others: Sequence[bytes], random_: random.Random) -> bytes:
    """
    Apply none to four mutations to an input.

    Args:
        data: Valid input.
        others: Inputs to exchange bytes with.
        random_: Decides.
    """
    for _ in range(random_.randrange(5)):
        at = random_.randrange(len(data) + 1)
        match random_.randrange(6):
            case 0:
                data = data[:at]
            case 1 if data:
                at = random_.randrange(len(data))
                data = data[:at] + bytes([data[at] ^ 1 << random_.randrange(8)]) + data[at + 1 :]
            case 2:
                data = data[:at] + random_.choice(TOKENS) + data[at:]
            case 3:
                end = at + random_.randrange(20)
                data = data[:end] + data[at:]
            case 4:
                other = random_.choice(others)
                data = data[:at] + other[random_.randrange(len(other) + 1) :]
            case 5:
                data = data[:at] + random_.randbytes(random_.randrange(8)) + data[at + random_.randrange(8) :]
    return data[:200_000]


def run(parser: Parser, n_cases: int, seed: int) -> int:
    """
    Try a parser; an error other than `StreamerError` is raised with a note that names the case.

    Args:
        parser: Under test.
        n_cases: Number of cases.
        seed: Together with a case's number it makes the case.

    Returns:
        How many cases were refused.
    """
    n_refused = 0
    for n in range(n_cases):
        random_ = random.Random(f"{seed} {parser.name} {n}")
        data = mutated(random_.choice(parser.inputs), parser.inputs, random_)
        try:
            parser.check(data, random_)
        except StreamerError:
            n_refused += 1
        except BaseException as error:
            error.add_note(f"parser {parser.name}, seed {seed}, case {n}: {data[:200]!r}")
            raise
    return n_refused
