"""Tests of streamer/access/owners.py: who a request is counted for."""

from __future__ import annotations

from pathlib import Path

import pytest
from starlette.types import Scope

from streamer.access.keys import Caller, Keys
from streamer.access.owners import address_of, caller_of, is_this_machine, owner_of, share_of

KEY = "kitchen-0123456789abcdef"


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    """One key is valid."""
    (tmp_path / "keys").write_text(f"kitchen {KEY}\n")
    return Keys(tmp_path / "keys")


def scope(address: str | None = "192.0.2.7", *, offered: tuple[str, ...] = (), **headers: str) -> Scope:
    """A handshake from an address; None: through a Unix socket."""
    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    client = (address, 50_000) if address else None
    return {"type": "websocket", "client": client, "headers": raw, "subprotocols": list(offered)}


@pytest.mark.parametrize(
    "shown",
    [
        scope(authorization=f"Bearer {KEY}"),
        scope(authorization=f"Token {KEY}"),
        scope(api_key=KEY),
        scope(offered=(f"auth.{KEY}",)),
        scope(offered=("token", KEY)),
    ],
    ids=["captions.v1", "Deepgram", "Azure", "a page", "a page of Deepgram"],
)
def test_a_key_counts_in_the_way_of_any_protocol(keys: Keys, shown: Scope) -> None:
    """All requests with it have one budget, from wherever they come."""
    assert caller_of(shown, keys) == Caller("kitchen")
    assert owner_of(shown, keys) == "key kitchen"


def test_tokens_of_a_key_share_a_budget_for_each_address(keys: Keys) -> None:
    """Any visitor of a page may have one."""
    token = keys.issue_token(Caller("kitchen"), 60.0).text

    assert owner_of(scope("192.0.2.7", offered=(f"auth.{token}",)), keys) == "token kitchen 192.0.2.7"
    assert owner_of(scope("192.0.2.8", offered=(f"auth.{token}",)), keys) == "token kitchen 192.0.2.8"


@pytest.mark.parametrize("shown", ["", "Bearer wrong", "Basic a2l0Y2hlbg=="])
def test_what_has_no_valid_key_counts_for_its_address(keys: Keys, shown: str) -> None:
    """So a stranger spends nothing of a user's."""
    assert caller_of(scope(authorization=shown), keys) is None
    assert owner_of(scope(authorization=shown), keys) == "address 192.0.2.7"


@pytest.mark.parametrize(
    ("address", "counted"),
    [("192.0.2.7", "192.0.2.7"), ("2001:db8::1", "2001:db8::/64"), ("::ffff:192.0.2.7", "192.0.2.7"), (None, "")],
)
def test_an_address_is_what_one_customer_has(address: str | None, counted: str) -> None:
    """Of IPv6 that is a network; a Unix socket has none."""
    assert address_of(scope(address)) == counted


@pytest.mark.parametrize(("address", "has_all"), [("127.0.0.1", True), (None, True), ("192.0.2.7", False)])
def test_programs_of_this_machine_share_nothing_where_no_key_is_needed(
    keys: Keys, address: str | None, has_all: bool
) -> None:
    """They may have all places; with keys they count like everybody."""
    assert is_this_machine(scope(address), Keys()) is has_all
    assert share_of(scope(address), Keys()) == (None if has_all else f"address {address}")
    assert not is_this_machine(scope(address), keys)
    assert share_of(scope(address), keys) == f"address {address or ''}"
