"""Who a request is counted for: the owner of its key, else its address."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from starlette.datastructures import Headers
from starlette.types import Scope

from streamer.access.exposure import is_loopback
from streamer.access.keys import Caller, Keys
from streamer.access.open_sockets import network
from streamer.access.presented_keys import presented_key
from streamer.dialects.deepgram.request import shown_key as deepgram_key
from streamer.dialects.openai.keys import shown_key as openai_key
from streamer.errors import KeyRefusedError


def owner_of(scope: Scope, keys: Keys) -> str:
    """
    Return the name of a request's budget: each key has its own, and what has no valid key counts for its address.

    So a stranger behind the proxy of a user spends nothing of the user's. A token may be in the hands of any visitor of
    a page, so tokens of one key share a budget for each address only.
    """
    address, caller = address_of(scope), caller_of(scope, keys)
    if caller is None:
        return f"address {address}"
    return f"token {caller.name} {address}" if caller.by_token else f"key {caller.name}"


def caller_of(scope: Scope, keys: Keys) -> Caller | None:
    """Return the owner of a valid key, shown in a way of any protocol; None: there is none, or no keys are required."""
    for presented in _presented(scope) if keys.are_required else ():
        with contextlib.suppress(KeyRefusedError):
            return keys.identify(presented)
    return None


def share_of(scope: Scope, keys: Keys) -> str | None:
    """Return who a place is counted for (`places`): as `owner_of`, None where the caller may have all."""
    return None if is_this_machine(scope, keys) else owner_of(scope, keys)


def is_this_machine(scope: Scope, keys: Keys) -> bool:
    """Whether a request comes from this machine to a daemon without keys: all its programs count as one owner."""
    return not keys.are_required and (not address_of(scope) or is_loopback(address_of(scope)))


def address_of(scope: Scope) -> str:
    """Return the address of a request's client (`forwarded`), or its network; empty for a Unix socket."""
    client = scope.get("client")
    return network(str(client[0])) if client else ""


def _presented(scope: Scope) -> Iterator[str]:
    """Every text that a client of any protocol may mean as its key."""
    headers, offered = Headers(scope=scope), scope.get("subprotocols", [])
    for text in (presented_key(scope), openai_key(headers, offered), deepgram_key(headers, offered)):
        if text:
            yield text
