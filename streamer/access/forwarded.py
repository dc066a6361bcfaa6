"""
Who a request comes from, where it passed trusted proxies: `X-Forwarded-For` or `Forwarded` (RFC 7239), read backwards.

Each proxy adds the address of its own peer at the right end. So the walk begins there and stops at the first address
that is no trusted proxy: what stands further left was written by the client, who may write anything.

A proxy writes one of the two headers, and passes the other one on as the client sent it. Where both are there and name
different clients, neither is believed. A request whose client cannot be told counts as one of UNKNOWN, which shares one
budget, and never as one of the proxy's machine.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Receive, Scope, Send

from streamer.config import UNIX_PEERS

UNKNOWN = "unknown"
"""Stands for the address of a client that a proxy does not tell, or not in one voice."""


class TrustedProxies:
    """
    The proxies whose word on their clients is taken.

    Args:
        entries: Addresses, networks, or `unix` for every peer of a Unix socket, as in `server.trusted_proxies`.
    """

    def __init__(self, entries: Iterable[str]) -> None:
        names = set(entries)
        self._trusts_unix = UNIX_PEERS in names
        self._networks = [ipaddress.ip_network(name, strict=False) for name in names - {UNIX_PEERS}]

    def trusts(self, host: str) -> bool:
        """Whether the peer at an address is a trusted proxy; the address of a peer of a Unix socket is empty."""
        if not host:
            return self._trusts_unix
        address = _ip(host)
        return address is not None and any(address in network for network in self._networks)


NO_PROXIES = TrustedProxies(())
"""Nobody's word is taken."""


class Hop(NamedTuple):
    """What one proxy says of its peer; empty: it says nothing."""

    client: str
    scheme: str = ""
    host: str = ""


class ForwardedClients:
    """
    ASGI middleware that gives requests of trusted proxies the address, scheme and host that their clients used.

    Lines of the log about a request have the address as `address`.

    Args:
        app: Sees the clients instead of the proxies.
        proxies: Trusted; requests of others are passed on as they are.
    """

    def __init__(self, app: ASGIApp, proxies: TrustedProxies) -> None:
        self._app, self._proxies = app, proxies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """
        Pass a request on.

        Args:
            scope: Of an HTTP request or a WebSocket; others are passed on as they are.
            receive: As in ASGI.
            send: As in ASGI.
        """
        if scope["type"] in ("http", "websocket"):
            scope = self._seen(scope)
            with structlog.contextvars.bound_contextvars(address=_peer(scope)):
                await self._app(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _seen(self, scope: Scope) -> Scope:
        if not self._proxies.trusts(_peer(scope)):
            return scope
        client = first_client(Headers(scope=scope), self._proxies)
        if client is None:
            return scope
        seen = {**scope, "client": (client.client, 0)}
        if client.scheme in ("http", "https"):
            seen["scheme"] = client.scheme.replace("http", "ws") if scope["type"] == "websocket" else client.scheme
        if client.host:
            headers = MutableHeaders(raw=list(scope["headers"]))
            headers["host"] = client.host
            seen["headers"] = headers.raw
        return seen


def first_client(headers: Headers, proxies: TrustedProxies) -> Hop | None:
    """
    Find the client that the outermost trusted proxy saw.

    Args:
        headers: Of a request of a trusted proxy.
        proxies: Trusted.

    Returns:
        The client, UNKNOWN if it cannot be told; None: the proxy says nothing about a client.
    """
    found = [_walk(hops, proxies) for hops in (_x_forwarded(headers), _forwarded(headers)) if hops]
    if not found:
        return None
    if len({hop.client for hop in found}) > 1:
        return Hop(UNKNOWN)
    return found[0]


def _walk(hops: Sequence[Hop], proxies: TrustedProxies) -> Hop:
    """The hop nearest to the daemon whose client is no trusted proxy; the furthest one if all are."""
    for hop in reversed(hops):
        address = _ip(_without_port(hop.client))
        if address is None:
            return Hop(UNKNOWN)
        if not proxies.trusts(str(address)):
            break
    return hop._replace(client=str(address))


def _x_forwarded(headers: Headers) -> list[Hop]:
    """`X-Forwarded-For`; scheme and host are in headers of their own, of which the last value is the proxy's."""
    scheme, host = _last(headers, "x-forwarded-proto").lower(), _last(headers, "x-forwarded-host")
    return [Hop(client, scheme, host) for client in _items(headers, "x-forwarded-for")]


def _forwarded(headers: Headers) -> list[Hop]:
    """`Forwarded`: an element for each proxy, of pairs `for=…;proto=…;host=…`, whose values may be quoted."""
    hops = []
    for element in _items(headers, "forwarded"):
        pairs = (pair.partition("=") for pair in element.split(";"))
        values = {name.strip().lower(): value.strip().strip('"') for name, _, value in pairs}
        hops.append(Hop(values.get("for", ""), values.get("proto", "").lower(), values.get("host", "")))
    return hops


def _items(headers: Headers, name: str) -> list[str]:
    # commas in quotes count too: else a client that opens a quote would swallow what the proxy adds behind it
    return [item.strip() for line in headers.getlist(name) for item in line.split(",")]


def _last(headers: Headers, name: str) -> str:
    items = _items(headers, name)
    return items[-1] if items else ""


def _without_port(text: str) -> str:
    """`192.0.2.1` of `192.0.2.1:4711`, `2001:db8::1` of `[2001:db8::1]:4711`."""
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.partition(":")[0] if text.count(":") == 1 else text


def _ip(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """An address without its zone; one of IPv4 that a socket of both families shows is the plain one."""
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return (address.ipv4_mapped or address) if isinstance(address, ipaddress.IPv6Address) else address


def _peer(scope: Scope) -> str:
    client = scope.get("client")
    return str(client[0]) if client else ""
