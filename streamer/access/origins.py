"""
Which pages of a browser may talk to the daemon.

A browser opens a WebSocket to any address for any page, and posts a form to it without asking first, so a foreign page
could use a daemon of the same machine that asks for no keys. Whatever a browser sends for a foreign page is refused, by
its `Origin`, and by `Sec-Fetch-Site` where the browser sends no origin. A foreign page can also point its own name at
the daemon's address and so be of the same origin (DNS rebinding): where no keys are required, and on loopback, only
names are served that nobody else can own. Programs send neither header and are let through.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocketClose

from streamer.access.exposure import is_loopback
from streamer.config import ServerConfig

_LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
_LOCAL_DOMAINS = (".local", ".localhost", ".internal", ".lan", ".home.arpa", ".test")
"""Domains that no stranger can register; names without a dot are as safe."""
_SAFE_METHODS = ("GET", "HEAD", "OPTIONS")


class AllowedOrigins:
    """
    Pages of other sites that may use the daemon.

    Args:
        origins: As in `server.allowed_origins`: `https://example.org`, `tauri://localhost` and the like for the pages
            of apps and of extensions, or `*` for every page.
    """

    def __init__(self, origins: Collection[str]) -> None:
        self._keys = {_origin_key(origin) for origin in origins} - {None}
        self._others = {origin.lower() for origin in origins if "://" in origin}
        self.are_all = "*" in origins
        """Whether every page may."""

    def allow(self, origin: str) -> bool:
        """Whether the page with this `Origin` header may."""
        return self.are_all or origin.lower() in self._others or _origin_key(origin) in self._keys


class OriginGuard:
    """
    ASGI middleware that refuses foreign pages, and names that a stranger may own, with 403.

    Args:
        app: The guarded application.
        config: `host` and `allowed_origins` are read.
        are_keys_required: Whether a page of another name could do nothing without a key.
    """

    def __init__(self, app: ASGIApp, config: ServerConfig, *, are_keys_required: bool = False) -> None:
        self._app = app
        self._origins = AllowedOrigins(config.allowed_origins)
        self._is_loopback = is_loopback(config.host)
        self._checks_host = (self._is_loopback or not are_keys_required) and not self._origins.are_all
        # a reverse proxy on this machine forwards the public name
        named = (key[1] for key in map(_origin_key, config.allowed_origins) if key)
        self._hosts = {config.host.lower(), *_LOOPBACK_NAMES, *named}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """
        Refuse a request, or pass it on.

        Args:
            scope: Of an HTTP request or a WebSocket; others are passed on.
            receive: As in ASGI.
            send: As in ASGI.
        """
        problem = self._problem(scope) if scope["type"] in ("http", "websocket") else ""
        if not problem:
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await WebSocketClose()(scope, receive, send)
        else:
            await PlainTextResponse(f"403: {problem}; set server.allowed_origins\n", 403)(scope, receive, send)

    def _problem(self, scope: Scope) -> str:
        """Return why a request is refused; empty: it is not."""
        headers = Headers(scope=scope)
        if self._checks_host and not self._is_known(_hostname(headers.get("host", ""))):
            return "this host name is not served; use localhost"
        if self._origins.are_all or self._is_own_page(scope, headers):
            return ""
        return "a page of another site may not use this daemon"

    def _is_known(self, name: str | None) -> bool:
        if name is None or name in self._hosts or self._is_loopback:
            return name in self._hosts
        return "." not in name or name.endswith(_LOCAL_DOMAINS) or _is_address(name)

    def _is_own_page(self, scope: Scope, headers: Headers) -> bool:
        """Whether a request comes from a program, a page of this daemon, an allowed page, or a click on a link."""
        origin = headers.get("origin")
        is_reading = scope["type"] == "http" and scope["method"] in _SAFE_METHODS
        if origin is not None and not (is_reading and headers.get("sec-fetch-mode") == "navigate"):
            key = _origin_key(origin)
            host = headers.get("host", "")
            return self._origins.allow(origin) or (key is not None and key[1:] == _address(host, key[0]))
        is_foreign = headers.get("sec-fetch-site") in ("cross-site", "same-site")
        return not is_foreign or (is_reading and headers.get("sec-fetch-mode") == "navigate")


def _origin_key(origin: str) -> tuple[str, str, int] | None:
    """Scheme, host name and port of an origin; None for anything else, such as `null` and `*`."""
    scheme, _, host = origin.lower().partition("://")
    address = _address(host, scheme)
    return (scheme, *address) if scheme in ("http", "https") and address else None


def _address(host: str, scheme: str) -> tuple[str, int] | None:
    """Host name and port of a `Host` header, by default the port of `scheme`; None if it cannot be parsed."""
    try:
        parts = urlsplit(f"//{host}")
        port = parts.port
    except ValueError:
        return None
    return (parts.hostname, port or (443 if scheme == "https" else 80)) if parts.hostname else None


def _hostname(host: str) -> str | None:
    address = _address(host, "http")
    return address[0] if address else None


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
