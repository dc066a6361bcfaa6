"""Tests of streamer/cli/failures.py"""

from __future__ import annotations

import errno

import pytest

from streamer.cli.failures import ConfigFailure, Failure, known_failures
from streamer.errors import CheckpointError, ConfigError, UnreadableFileError

FULL = OSError(errno.ENOSPC, "No space left on device")
REFUSED = PermissionError(errno.EACCES, "Permission denied", "/etc/shadow")


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (ConfigError("a"), ConfigFailure, "a"),
        (UnreadableFileError("b"), Failure, "b"),
        (CheckpointError("c"), Failure, "c"),
        (FULL, Failure, "cannot write the output: no space left on device"),
        (REFUSED, Failure, "cannot use /etc/shadow: permission denied"),
    ],
)
def test_what_is_known_is_a_failure_with_its_reason(error: Exception, kind: type[Failure], message: str) -> None:
    """By itself, or alone in groups: a task that failed comes in one."""
    for each in (error, ExceptionGroup("", [error]), ExceptionGroup("", [ExceptionGroup("", [error])])):
        with pytest.raises(Failure) as failure, known_failures():
            raise each
        assert type(failure.value) is kind
        assert failure.value.message == message


@pytest.mark.parametrize("error", [KeyError("a"), OSError("b"), ExceptionGroup("", [FULL, REFUSED])])
def test_what_is_not_known_stays_what_it_is(error: Exception) -> None:
    """It is a fault of the program, whose traceback is wanted."""
    with pytest.raises(type(error)) as raised, known_failures():
        raise error
    assert raised.value is error


def test_a_reader_that_has_left_is_no_failure() -> None:
    """Click ends the program without a word, also where a task wrote."""
    left = BrokenPipeError(errno.EPIPE, "x")
    for each in (left, ExceptionGroup("", [left])):
        with pytest.raises(BrokenPipeError), known_failures():
            raise each
