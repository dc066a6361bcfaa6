"""Tests of streamer/access/presented_keys.py."""

from __future__ import annotations

import pytest

from streamer.access.presented_keys import presented_key


@pytest.mark.parametrize(
    ("authorization", "subprotocols", "key"),
    [
        ("Bearer abc", [], "abc"),
        ("bearer  abc ", ["auth.other"], "abc"),
        ("Basic abc", [], None),
        ("", ["captions.v1", "auth.abc"], "abc"),
        ("", ["captions.v1"], None),
        ("", [], None),
    ],
)
def test_a_key_stands_in_the_header_or_in_a_subprotocol(
    authorization: str, subprotocols: list[str], key: str | None
) -> None:
    """The header wins; another scheme than Bearer is no key."""
    headers = [(b"authorization", authorization.encode())] if authorization else []
    scope = {"type": "websocket", "headers": headers, "subprotocols": subprotocols}

    assert presented_key(scope) == key
