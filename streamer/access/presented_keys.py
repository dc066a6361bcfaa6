"""API keys in requests: where a program or a page puts its key."""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.types import Scope

SUBPROTOCOL_KEY = "auth."
"""A page cannot set headers on a WebSocket: it offers its key as a subprotocol, `auth.KEY`, which is never answered."""


def presented_key(scope: Scope) -> str | None:
    """
    Find the API key or token of a request: `Authorization: Bearer KEY`, or for a page the subprotocol `auth.KEY`.

    None: the request carries no key.
    """
    scheme, _, key = Headers(scope=scope).get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return key.strip()
    offered: list[str] = scope.get("subprotocols", [])
    return next((name.removeprefix(SUBPROTOCOL_KEY) for name in offered if name.startswith(SUBPROTOCOL_KEY)), None)
