"""
Who may talk to the daemon: keys in requests, pages in browsers, and what its own pages may do. Pure ASGI.

A browser opens a WebSocket to any address for any page, so a page from elsewhere could listen in on an
unauthenticated daemon of the same machine: a foreign `Origin` is refused. A foreign page can also point its
own name at 127.0.0.1 and be same-origin with it: on a loopback address only known `Host` names are served.
Programs send no Origin and are let through.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocketClose

from streamer.access.keys import Keys
from streamer.config import ServerConfig
from streamer.errors import ConfigError

_LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})

_PAGE_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "microphone=(self), camera=(), geolocation=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}

SUBPROTOCOL_KEY = "auth."
"""A page cannot set headers on a WebSocket: it offers its key as a subprotocol, `auth.KEY`, which is never answered."""


def presented_key(scope: Scope) -> str | None:
    """The API key or token in `Authorization: Bearer KEY`, or for a page in the subprotocol `auth.KEY`; else None."""
    scheme, _, key = Headers(scope=scope).get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return key.strip()
    offered: list[str] = scope.get("subprotocols", [])
    return next((name.removeprefix(SUBPROTOCOL_KEY) for name in offered if name.startswith(SUBPROTOCOL_KEY)), None)


def check_exposure(addresses: Iterable[str], config: ServerConfig, keys: Keys) -> None:
    """
    See to it that nobody opens the daemon to a network by accident.

    Args:
        addresses: Hosts that are listened on.
        config: Whether that is allowed without keys.
        keys: Whether there are any.

    Raises:
        ConfigError: An address is not of this machine alone, no keys are set, and that was not asked for.
    """
    wide = [address for address in addresses if not is_loopback(address)]
    if wide and not keys.are_required and not config.allow_without_keys:
        raise ConfigError(
            f"server.host = {wide[0]} is open to the network and no API keys are set: "
            "set server.keys_file, or server.allow_without_keys = true if that is meant"
        )


class OriginGuard:
    """Refuses foreign origins on WebSockets, and foreign host names on a loopback address, with 403."""

    def __init__(self, app: ASGIApp, config: ServerConfig) -> None:
        self._app = app
        self._origins = {_origin_key(origin) for origin in config.allowed_origins}
        self._allows_all = "*" in config.allowed_origins
        self._checks_host = is_loopback(config.host) and not self._allows_all
        # a reverse proxy on this machine passes the public name on
        self._hosts = _LOOPBACK_NAMES | {urlsplit(origin).hostname for origin in config.allowed_origins}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse, or hand on."""
        if scope["type"] not in ("http", "websocket") or self._is_allowed(scope):
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await WebSocketClose()(scope, receive, send)
        else:
            refusal = "403: this host name is not served; use localhost, or set server.allowed_origins\n"
            await PlainTextResponse(refusal, 403)(scope, receive, send)

    def _is_allowed(self, scope: Scope) -> bool:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if self._checks_host and _hostname(host) not in self._hosts:
            return False
        origin = headers.get("origin")
        if scope["type"] == "http" or origin is None or self._allows_all:
            return True
        key = _origin_key(origin)
        return key in self._origins or (key is not None and key[1:] == _address(host, key[0]))


class PageHeaders:
    """Adds the security headers of a page to every HTTP response."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand on, with headers added to what comes back."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(_PAGE_HEADERS)
                # pages change with the daemon: always ask whether the kept copy is the current one
                headers.setdefault("Cache-Control", "no-cache")
            await send(message)

        await self._app(scope, receive, send_with_headers if scope["type"] == "http" else send)


def _origin_key(origin: str) -> tuple[str, str, int] | None:
    """Scheme, host name and port of an origin; None if it is none, as `null` and `*` are."""
    scheme, _, host = origin.lower().partition("://")
    address = _address(host, scheme)
    return (scheme, *address) if scheme in ("http", "https") and address else None


def _address(host: str, scheme: str) -> tuple[str, int] | None:
    """Host name and port of a `Host` header, with the port that `scheme` implies."""
    try:
        parts = urlsplit(f"//{host}")
        port = parts.port
    except ValueError:
        return None
    return (parts.hostname, port or (443 if scheme == "https" else 80)) if parts.hostname else None


def _hostname(host: str) -> str | None:
    address = _address(host, "http")
    return address[0] if address else None


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address; a path is that of a Unix socket."""
    if host == "localhost" or host.startswith("/"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
