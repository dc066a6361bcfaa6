"""
What ends the program: exit code 1 for a failure, after which another try may succeed, 2 for bad usage or configuration.

The reason is one line on standard error; several mistakes in the configuration are a line each.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from typing import IO, Any

import click

from streamer.errors import ConfigError, StreamerError, UnreadableFileError, reason_of

EXIT_FAILED, EXIT_USAGE = 1, 2


class Failure(click.ClickException):
    """Ends the program with exit code 1 and the reason on standard error."""

    exit_code = EXIT_FAILED

    def show(self, file: IO[Any] | None = None) -> None:
        """Write the line, or a line for each mistake."""
        for line in self.format_message().splitlines():
            click.echo(f"streamer: {line}", file=file, err=True)


class ConfigFailure(Failure):
    """Ends the program with exit code 2: the configuration cannot be used."""

    exit_code = EXIT_USAGE


@contextlib.contextmanager
def known_failures() -> Iterator[None]:
    """Raise a failure in place of an error whose reason is known, also where it comes alone in a group."""
    try:
        yield
    except Exception as error:
        alone = _alone(error)
        if isinstance(alone, BrokenPipeError):  # whoever read the output has left: click ends the program
            raise alone from None
        failure = _failure_of(alone)
        if failure is None:
            raise
        raise failure from None


def _alone(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        [error] = error.exceptions
    return error


def _failure_of(error: BaseException) -> Failure | None:
    match error:
        case UnreadableFileError():
            return Failure(str(error))
        case ConfigError():
            return ConfigFailure(str(error))
        case StreamerError():
            return Failure(str(error))
        case OSError(errno=errno.ENOSPC | errno.EDQUOT):
            return Failure(f"cannot write the output: {reason_of(error)}")
        case OSError(filename=str() | os.PathLike() as path):
            return Failure(f"cannot use {path}: {reason_of(error)}")
    return None
