"""Tests of streamer.dialects.openai.keys."""

from __future__ import annotations

import dataclasses

import pytest

from streamer.dialects.openai.keys import ClientSecret, ClientSecrets, shown_key
from streamer.dialects.openai.session import default_settings
from streamer.errors import OverloadError
from streamer.protocol.options import SessionOptions

SECRET = ClientSecret("ek_1", 100, None, default_settings(SessionOptions()))


@pytest.mark.parametrize(
    ("headers", "subprotocols", "key"),
    [
        ({"authorization": "Bearer K"}, (), "K"),
        ({"authorization": "bearer  K "}, (), "K"),
        ({"authorization": "Basic K"}, (), None),
        ({"authorization": "Bearer "}, (), None),
        ({"api-key": "K"}, (), "K"),
        ({}, ("realtime", "openai-insecure-api-key.K"), "K"),
        ({}, ("realtime", "realtime-token.K"), "K"),
        ({}, ("realtime", "openai-beta.realtime-v1"), None),
        ({}, (), None),
    ],
)
def test_where_clients_put_their_key(headers: dict[str, str], subprotocols: tuple[str, ...], key: str | None) -> None:
    """Programs in a header, pages in a subprotocol."""
    assert shown_key(headers, subprotocols) == key


def test_a_secret_is_good_until_it_expires() -> None:
    """And nothing else is a secret."""
    secrets = ClientSecrets()
    secrets.add(SECRET, now=40.0)
    assert secrets.find("ek_1", now=99.0) == SECRET
    assert secrets.find("ek_1", now=100.0) is None
    assert secrets.find("ek_2", now=50.0) is None
    assert secrets.find(None, now=50.0) is None


def test_secrets_are_bounded() -> None:
    """With too many out the next is refused, until one has expired."""
    secrets = ClientSecrets(most=1)
    secrets.add(SECRET, now=40.0)
    another = dataclasses.replace(SECRET, value="ek_2", expires_at=200)
    with pytest.raises(OverloadError, match="client secrets of this caller and 1 in all are valid"):
        secrets.add(another, now=50.0)
    secrets.add(another, now=100.0)
    assert secrets.find("ek_2", now=150.0) == another
