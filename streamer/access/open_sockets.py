"""
Bounds of the sockets of a port: how many are open, how many wait for bytes of their peer, and how fast they come.

A connection waits during its TLS handshake, before and between requests, while a body is awaited, and while its peer
takes nothing of an answer. Beyond the bound of waiting connections the oldest one is dropped of the address that has
most of them. So an address with a thousand half-open connections loses its own, and everybody else gets in. The bounds
hold before any key is known.
"""

from __future__ import annotations

import functools
import ipaddress
from collections.abc import Callable

from streamer.access.forwarded import NO_PROXIES, TrustedProxies
from streamer.access.token_buckets import Buckets
from streamer.telemetry.metrics import SocketMetrics

MAX_WAITING = 512
"""Connections that wait for bytes of their peer; a TLS handshake takes up to 100 kB of memory."""
ACCEPTS_PER_S = 200.0
"""New connections of one address each second; more are closed at once."""
ACCEPT_BURST = 1000.0
"""New connections of one address after a quiet time: an audience that returns after a restart."""


class OpenSocket:
    """
    One open connection, as its port counts it.

    Args:
        sockets: Of the port.
        address: Of the peer.
    """

    def __init__(self, sockets: OpenSockets, address: str) -> None:
        self._sockets, self.address = sockets, address
        self.drop: Callable[[], object] = _nothing
        """Cuts the connection; set by whoever carries it."""
        self.is_known = False
        """Whether its first bytes have shown a valid key."""

    @property
    def is_waiting(self) -> bool:
        """Whether the connection waits for its peer."""
        return self._sockets.is_waiting(self)

    def wait(self) -> None:
        """Count the connection as one that waits for its peer; a second call changes nothing."""
        self._sockets.wait(self)

    def work(self) -> None:
        """Count the connection as one that is served."""
        self._sockets.work(self)

    def show_key(self) -> None:
        """Its first bytes have shown a valid key: nobody waits for its peer, and it is not among those that are cut."""
        self.is_known = True
        self.work()

    def close(self) -> None:
        """Count the connection no longer; a second call changes nothing."""
        self._sockets.close(self)


class OpenSockets:
    """
    The open connections of a port.

    Args:
        max_open: Connections at once.
        max_waiting: Of them, connections that wait for bytes of their peer.
        metrics: Counters.
        proxies: Their connections are those of many clients, and come as fast as these do.
    """

    def __init__(
        self,
        max_open: int,
        metrics: SocketMetrics,
        max_waiting: int = MAX_WAITING,
        proxies: TrustedProxies = NO_PROXIES,
    ) -> None:
        self._max_open, self._max_waiting, self._metrics = max_open, min(max_waiting, max_open), metrics
        self._proxies = proxies
        self._open: set[OpenSocket] = set()
        self._waiting: dict[str, dict[OpenSocket, None]] = {}
        self._n_waiting = 0
        self._accepts = Buckets(ACCEPTS_PER_S, ACCEPT_BURST)

    @property
    def n_open(self) -> int:
        """Open connections."""
        return len(self._open)

    @property
    def n_waiting(self) -> int:
        """Open connections that wait for bytes of their peer."""
        return self._n_waiting

    def admit(self, host: str, now_s: float) -> OpenSocket | None:
        """
        Count a new connection, which waits. None: it is to be closed at once.

        Args:
            host: Address of the peer; empty for a Unix socket.
            now_s: Monotonic time, seconds.
        """
        address = "" if self._proxies.trusts(host) else network(host)
        if address and self._accepts.of(address).take(now_s):
            self._metrics.dropped.labels("rate").inc()
            return None
        if len(self._open) >= self._max_open and not self._drop_one():
            self._metrics.dropped.labels("full").inc()
            return None
        slot = OpenSocket(self, address)
        self._open.add(slot)
        self._metrics.sockets.set(len(self._open))
        self.wait(slot)
        return slot

    def is_waiting(self, slot: OpenSocket) -> bool:
        """As `OpenSocket.is_waiting`."""
        return slot in self._waiting.get(slot.address, {})

    def wait(self, slot: OpenSocket) -> None:
        """As `OpenSocket.wait`."""
        waiting = self._waiting.setdefault(slot.address, {})
        if slot in self._open and slot not in waiting:
            waiting[slot] = None
            self._n_waiting += 1
            if self._n_waiting > self._max_waiting:
                self._drop_one()
        elif not waiting:
            del self._waiting[slot.address]

    def work(self, slot: OpenSocket) -> None:
        """As `OpenSocket.work`."""
        waiting = self._waiting.get(slot.address, {})
        if slot in waiting:
            del waiting[slot]
            self._n_waiting -= 1
            if not waiting:
                del self._waiting[slot.address]

    def close(self, slot: OpenSocket) -> None:
        """As `OpenSocket.close`."""
        self.work(slot)
        slot.drop = _nothing  # it holds whoever carries the connection
        self._open.discard(slot)
        self._metrics.sockets.set(len(self._open))

    def _drop_one(self) -> bool:
        """Drop the connection that has waited longest of the address with most; False if none waits."""
        if not self._n_waiting:
            return False
        greediest = max(self._waiting.values(), key=len)
        slot = next(iter(greediest))
        drop = slot.drop
        self.close(slot)
        self._metrics.dropped.labels("waiting").inc()
        drop()
        return True


@functools.lru_cache(maxsize=4096)
def network(host: str) -> str:
    """Return what counts as one address: an IPv4 address, or the 64 bits of an IPv6 network that one customer has."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(ipaddress.ip_network((address, 64), strict=False))
    return str(address)


def _nothing() -> None:
    """Cut nothing: nobody carries the connection yet."""
