"""
Which pages of a browser may talk to the daemon.

A browser opens a WebSocket to any address for any page, so a foreign page could listen in on a daemon of the same
machine that asks for no keys: a foreign `Origin` is refused. A foreign page can also point its own name at 127.0.0.1
and so be of the same origin: on a loopback address only known `Host` names are served. Programs send no `Origin` and
are let through.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocketClose

from streamer.access.exposure import is_loopback
from streamer.config import ServerConfig

_LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})


class OriginGuard:
    """
    ASGI middleware that refuses foreign origins on WebSockets, and foreign host names on a loopback address, with 403.

    Args:
        app: The guarded application.
        config: `host` and `allowed_origins` are read.
    """

    def __init__(self, app: ASGIApp, config: ServerConfig) -> None:
        self._app = app
        self._origins = {_origin_key(origin) for origin in config.allowed_origins}
        self._allows_all = "*" in config.allowed_origins
        self._checks_host = is_loopback(config.host) and not self._allows_all
        # a reverse proxy on this machine forwards the public name
        self._hosts = _LOOPBACK_NAMES | {urlsplit(origin).hostname for origin in config.allowed_origins}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """
        Refuse a request, or pass it on.

        Args:
            scope: Of an HTTP request or a WebSocket; others are passed on.
            receive: As in ASGI.
            send: As in ASGI.
        """
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
