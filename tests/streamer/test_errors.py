"""Tests of streamer/errors.py: one tree, so that callers can catch what they mean."""

from __future__ import annotations

import inspect

from streamer import errors
from streamer.errors import CaptureError, DeviceNotFoundError, OverloadError, ProtocolError, StreamerError


def test_one_root() -> None:
    """Every error raised on purpose can be caught as one, and the root says which there are."""
    classes = [value for _, value in inspect.getmembers(errors, inspect.isclass)]
    assert all(issubclass(error, StreamerError) for error in classes)
    assert errors.__doc__ is not None
    assert all(error.__name__ in errors.__doc__ for error in classes)


def test_microphone_errors_are_kin() -> None:
    """Whoever can do without a microphone catches one error."""
    assert issubclass(DeviceNotFoundError, CaptureError)
    assert not issubclass(ProtocolError, CaptureError)


def test_what_errors_carry() -> None:
    """The wire code and the seconds to wait are data, the message is text for people."""
    broken = ProtocolError("bad_message", "no type: expected a field 'type'")
    assert (broken.code, str(broken)) == ("bad_message", "no type: expected a field 'type'")
    full = OverloadError("try again later", retry_after_s=10.0)
    assert (full.retry_after_s, str(full)) == (10.0, "try again later")
