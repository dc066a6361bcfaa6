"""Cases made of valid input by mutation, and the loop that tries them."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from streamer.errors import StreamerError

NUMBER = re.compile(rb"-?\d+(?:\.\d+)?")
Check = Callable[[bytes, random.Random], None]

TOKENS = [b"", b"null", b"-1", b"1e999", b'"', b"{", b"]", b"\\ud800", b"\x00", b"\xff", b"9" * 30, b"[" * 2000]
NUMBERS = [
    *(b"0", b"-0", b"-0.0", b"1e-400", b"5e-324", b"0.1", b"1e15", b"1e305", b"-1e305", b"1.7976931348623157e308"),
    *(b"nan", b"inf", b"-inf", b"NaN", b"Infinity", b"true", b"1_000", b"0x10", b"1.", b"\xd9\xa1\xd9\xa2"),
    *(str(sign * 2**n + more).encode() for n in (31, 32, 53, 63, 64, 1000) for sign in (1, -1) for more in (-1, 0, 1)),
    *(b"9" * n for n in (400, 4300, 4301, 20_000)),
]
"""Numbers out of this world, in place of any number of an input."""
TEXTS = [
    *(b"\xef\xbb\xbf", "\u2028\u202e\u200d".encode(), b"\xed\xa0\x80", b"\xc0\xaf", b"\xff\xfe", b"%00", b"\\u0000"),
    *(b"\r\n\r\n", b"x" * 300, "\U0001f600".encode() * 40, "e\u0301".encode() * 70),
]
"""Encodings out of this world."""
LONG_TEXTS = [b"x" * 70_000, b"=" * 5000, "\U0001f600".encode() * 2000, "e\u0301".encode() * 3000, b"[" * 100_000]
"""Lengths out of this world: in one case of LONG_EVERY, for they take most of the time."""
LONG_EVERY = 60
SLOWEST_S = 1.0
"""Processor time that one case may take, seconds."""


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
    if random_.randrange(LONG_EVERY) == 0:
        at = random_.randrange(len(data) + 1)
        data = data[:at] + random_.choice(LONG_TEXTS) + data[at:]
    for _ in range(random_.randrange(5)):
        at = random_.randrange(len(data) + 1)
        match random_.randrange(9):
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
            case 6 if numbers := list(NUMBER.finditer(data)):
                found = random_.choice(numbers)
                data = data[: found.start()] + random_.choice(NUMBERS) + data[found.end() :]
            case 7:
                data = data[:at] + random_.choice(TEXTS) + data[at:]
            case 8:  # the same again, or its parts in another order
                end = at + random_.randrange(200)
                data = data[:at] + data[at:end] * random_.choice((2, 3, 20)) + data[end:]
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
        began_s = time.thread_time()
        try:
            parser.check(data, random_)
        except StreamerError:
            n_refused += 1
        except BaseException as error:
            error.add_note(f"parser {parser.name}, seed {seed}, case {n}: {data[:200]!r}")
            raise
        took_s = time.thread_time() - began_s
        if took_s > SLOWEST_S:
            raise AssertionError(f"parser {parser.name}, seed {seed}, case {n}: {took_s:.1f} s for {data[:200]!r}")
    return n_refused
