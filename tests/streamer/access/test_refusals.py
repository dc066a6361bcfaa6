"""Tests of streamer/access/refusals.py."""

from __future__ import annotations

import json

from streamer.access.refusals import refusal
from streamer.errors import KeyRefusedError, OverloadError, ProtocolError


def test_a_refused_key_asks_for_one() -> None:
    """401 with the challenge, and the reason in the body."""
    response = refusal(KeyRefusedError("this API key is not known here"))

    assert (response.status_code, response.headers["www-authenticate"]) == (401, "Bearer")
    assert json.loads(bytes(response.body)) == {
        "type": "error",
        "code": "unauthorized",
        "message": "this API key is not known here",
        "fatal": True,
    }


def test_an_overload_says_when_to_come_back() -> None:
    """In the header in whole seconds, and exactly in the body; the status may be another one."""
    response = refusal(OverloadError("too many", 0.25), status=429)

    assert (response.status_code, response.headers["retry-after"]) == (429, "1")
    assert json.loads(bytes(response.body))["retry_after_s"] == 0.25


def test_other_errors_have_no_such_headers() -> None:
    """Trying again or with a key does not help."""
    response = refusal(ProtocolError("no_rooms", "this daemon has no rooms"))

    assert response.status_code == 404
    assert {"www-authenticate", "retry-after"}.isdisjoint(response.headers)
