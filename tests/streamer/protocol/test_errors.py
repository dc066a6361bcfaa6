"""Tests of streamer/protocol/errors.py."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from streamer.errors import (
    AudioFormatError,
    DeviceLostError,
    EngineError,
    KeyRefusedError,
    OverloadError,
    ProtocolError,
    StreamerError,
)
from streamer.protocol.errors import ERROR_CODES, WireError, wire_error

ROOT = Path(__file__).parent.parent.parent.parent
RAISED = re.compile(r'ProtocolError\(\s*"(\w+)"')


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ProtocolError("bad_value", "m"), ("bad_value", 1002, 400)),
        (ProtocolError("frame_too_large", "m"), ("frame_too_large", 1009, 413)),
        (ProtocolError("idle", "m"), ("idle", 1000, 408)),
        (ProtocolError("draining", "m"), ("draining", 1012, 503)),
        (ProtocolError("no_rooms", "m"), ("no_rooms", 1008, 404)),
        (AudioFormatError("m"), ("bad_audio", 1007, 400)),
        (KeyRefusedError("m"), ("unauthorized", 4401, 401)),
        (EngineError("m"), ("internal", 1011, 500)),
        (DeviceLostError("m"), ("internal", 1011, 500)),
    ],
)
def test_each_error_has_its_code_close_code_and_status(error: StreamerError, expected: tuple[str, int, int]) -> None:
    """A broken protocol closes with 1002 unless WebSocket has a more precise close code."""
    assert wire_error(error) == WireError(*expected)


def test_an_overload_says_when_to_come_back() -> None:
    """In seconds, and as a header in whole seconds, rounded up so that no client comes too early."""
    told = wire_error(OverloadError("full", 2.25))

    assert told == WireError("overloaded", 1013, 503, 2.25)
    assert told.retry_after == {"Retry-After": "3"}
    assert wire_error(EngineError("broken")).retry_after == {}


@pytest.mark.parametrize(
    ("error", "close_code"), [(OverloadError("m", 5.0), 1013), (EngineError("m"), 1011), (AudioFormatError("m"), 1011)]
)
def test_foreign_protocols_know_two_close_codes(error: StreamerError, close_code: int) -> None:
    """Their clients tell a busy server from a fault, and nothing more."""
    assert wire_error(error).fault_close_code == close_code


def test_every_code_that_captions_v1_uses_is_in_the_table() -> None:
    """Codes are literals where they are raised; dialects have words of their own."""
    sources = [path for path in (ROOT / "streamer").rglob("*.py") if "dialects" not in path.parts]
    raised = {code for path in sources for code in RAISED.findall(path.read_text(encoding="utf-8"))}

    assert {"bad_json", "idle", "room_taken", "no_codecs"} <= raised <= ERROR_CODES.keys()
    assert ERROR_CODES.keys() - raised == {"bad_audio", "forbidden", "internal", "overloaded", "unauthorized"}
