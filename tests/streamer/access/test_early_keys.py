"""Tests of streamer/access/early_keys.py: who shows a key in the first bytes."""

from __future__ import annotations

from pathlib import Path

import pytest

from streamer.access.early_keys import HEAD_BYTES, shows_key
from streamer.access.keys import Keys

KEY = "0123456789abcdef"


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    """One is valid."""
    (tmp_path / "keys").write_text(f"kitchen {KEY}\n")
    return Keys(tmp_path / "keys")


def head(*lines: str) -> bytes:
    """Of a handshake."""
    return "\r\n".join(("GET /v1/captions HTTP/1.1", "Host: localhost", *lines, "", "")).encode("latin-1")


WAYS = (
    "Authorization: Bearer {}",
    "authorization:bearer {}",
    "Authorization: Token {}",
    "api-key: {}",
    "Sec-WebSocket-Protocol: captions.v1, auth.{}",
    "Sec-WebSocket-Protocol: realtime, openai-insecure-api-key.{}",
    "Sec-WebSocket-Protocol: token, {}",
)
"""In which a key is shown, by the protocols that the daemon speaks."""


@pytest.mark.parametrize("way", WAYS)
def test_a_valid_key_is_seen(way: str, keys: Keys) -> None:
    """In every way, whatever stands before it and however little follows; another one is none."""
    token = keys.issue_token(keys.identify(KEY), 60).text
    for shown in (KEY, token):
        assert shows_key(head("Cookie: " + "x" * 2000, way.format(shown)), keys)
        assert shows_key(head(way.format(shown))[:-4], keys)
    assert not shows_key(head(way.format("wrong-wrong-wrong")), keys)
    assert not shows_key(head(way.format(KEY)), Keys())


@pytest.mark.parametrize(
    "data",
    [b"", b"\x16\x03\x01\x02\x00", bytes(range(256)) * 20, b"authorization:" * 500, head("Authorization: \xff")],
)
def test_anything_else_shows_none(data: bytes, keys: Keys) -> None:
    """Nor does it raise."""
    assert not shows_key(data, keys)


def test_only_the_beginning_is_looked_at(keys: Keys) -> None:
    """A long head costs no more; its sender comes with the others."""
    assert not shows_key(head("Cookie: " + "x" * HEAD_BYTES, f"Authorization: Bearer {KEY}"), keys)
