"""Arguments of benchmarks, checked before anything is measured, and their ends: a mistake or a failure is one line."""

from __future__ import annotations

import argparse
import math
import os
import sys
from collections.abc import Callable, Collection
from pathlib import Path
from typing import NoReturn, TypeVar

from streamer.errors import ConfigError, StreamerError, UnreadableFileError, reason_of

Value = TypeVar("Value")

EXIT_FAILED, EXIT_USAGE, EXIT_INTERRUPTED = 1, 2, 130


def program(main: Callable[[], int | None]) -> NoReturn:
    """
    Run a benchmark as a program, and exit.

    The exit code is what `main` returns or exits with; 1 for what failed on purpose, 2 for what cannot be measured with
    these arguments, 130 for Ctrl-C.

    Args:
        main: The benchmark.
    """
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        _end("interrupted", EXIT_INTERRUPTED)
    except ConfigError as error:
        _end(str(error), EXIT_FAILED if isinstance(error, UnreadableFileError) else EXIT_USAGE)
    except StreamerError as error:
        _end(str(error), EXIT_FAILED)
    except OSError as error:
        if error.filename is None and not error.errno:
            raise
        _end(f"{error.filename or 'the output'}: {reason_of(error)}", EXIT_FAILED)


def _end(message: str, code: int) -> NoReturn:
    print(f"{Path(sys.argv[0]).stem}: {message}", file=sys.stderr)
    sys.exit(code)


def whole(least: int = 1) -> Callable[[str], int]:
    """The type of an argument that is a whole number from `least` on."""

    def parse(text: str) -> int:
        if not text.isascii() or not text.isdecimal() or len(text) > 9 or int(text) < least:
            raise argparse.ArgumentTypeError(f"{text[:40]!r}: expected a whole number from {least} on")
        return int(text)

    return parse


def number(least: float = 0.0) -> Callable[[str], float]:
    """The type of an argument that is a finite number from `least` on."""

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not least <= value < math.inf:
            raise argparse.ArgumentTypeError(f"{text[:40]!r}: expected a number from {least:g} on")
        return value

    return parse


def one_of(allowed: Collection[str]) -> Callable[[str], str]:
    """The type of an argument that is one of these texts; for parts of a list, which know no `choices`."""

    def parse(text: str) -> str:
        if text not in allowed:
            raise argparse.ArgumentTypeError(f"{text[:40]!r}: expected some of {', '.join(allowed)}")
        return text

    return parse


def listed(parse: Callable[[str], Value]) -> Callable[[str], list[Value]]:
    """The type of an argument that is several of another type, with commas between them."""
    return lambda text: [parse(part) for part in text.split(",")]


def manifest_file(text: str) -> Path:
    """The type of an argument that names a file to read."""
    if not os.path.isfile(text):
        found = "a folder" if os.path.isdir(text) else "no such file"
        raise argparse.ArgumentTypeError(f"{text[:200]!r} is {found}: expected a file, as tests/data/manifest.jsonl")
    return Path(text)


def results_file(text: str) -> Path:
    """The type of an argument that names a file to write: to be known before the results are there."""
    path = Path(text)
    if path.is_dir() or not os.access(path if path.exists() else path.parent, os.W_OK):
        raise argparse.ArgumentTypeError(f"{text[:200]!r}: expected a file in a folder that can be written to")
    return path
