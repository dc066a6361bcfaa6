"""Tests of streamer/access/open_sockets.py: who gets in when a port is full."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from streamer.access.forwarded import TrustedProxies
from streamer.access.open_sockets import ACCEPT_BURST, OpenSocket, OpenSockets, network
from streamer.telemetry.metrics import SocketMetrics


def sockets(max_open: int, max_waiting: int) -> OpenSockets:
    """Of a port without other bounds."""
    return OpenSockets(max_open, SocketMetrics(CollectorRegistry()), max_waiting)


def admitted(port: OpenSockets, host: str, dropped: list[str]) -> OpenSocket:
    """A connection that got in, and notes when it is dropped."""
    slot = port.admit(host, 0.0)
    assert slot is not None
    slot.drop = lambda: dropped.append(host)
    return slot


def test_the_address_with_most_loses_its_oldest() -> None:
    """A thousand half-open connections cost those who have none of them nothing."""
    port, dropped = sockets(max_open=100, max_waiting=10), list[str]()
    honest = [admitted(port, f"192.0.2.{n}", dropped) for n in range(3)]
    for _ in range(90):
        admitted(port, "198.51.100.1", dropped)
    late = admitted(port, "192.0.2.9", dropped)

    assert set(dropped) == {"198.51.100.1"}
    assert port.n_waiting == 10
    for slot in (*honest, late):
        slot.work()
    assert port.n_open == 10


def test_connections_that_are_served_are_never_dropped() -> None:
    """Where all are served, the new one is refused."""
    port, dropped = sockets(max_open=3, max_waiting=3), list[str]()
    for _ in range(3):
        admitted(port, "192.0.2.1", dropped).work()

    assert port.admit("192.0.2.2", 0.0) is None
    assert dropped == []


def test_an_address_that_connects_all_the_time_is_refused() -> None:
    """A burst is allowed; a Unix socket has no address and no bound."""
    port = sockets(max_open=10**6, max_waiting=10**6)
    allowed = sum(port.admit("192.0.2.1", 0.0) is not None for _ in range(int(ACCEPT_BURST) + 50))

    assert allowed == ACCEPT_BURST
    assert port.admit("192.0.2.2", 0.0) is not None
    assert all(port.admit("", 0.0) is not None for _ in range(int(ACCEPT_BURST) + 50))


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["admit", "wait", "work", "close"]), st.integers(0))))
def test_the_counts_are_those_of_the_connections(steps: list[tuple[str, str, int]]) -> None:
    """Whatever the order of calls, and however often each comes."""
    port = sockets(max_open=6, max_waiting=3)
    known: list[OpenSocket] = []
    for host, step, which in steps:
        if step == "admit" or not known:
            if (slot := port.admit(host, 0.0)) is not None:
                known.append(slot)
        else:
            getattr(known[which % len(known)], step)()
        assert 0 <= port.n_waiting <= 3
        assert port.n_waiting <= port.n_open <= 6
    for slot in known:
        slot.close()
    assert (port.n_open, port.n_waiting) == (0, 0)


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3::4", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
        ("no address", "no address"),
    ],
)
def test_a_customer_is_one_address(host: str, expected: str) -> None:
    """An IPv6 network of 64 bits has more addresses than anybody could count."""
    assert network(host) == expected


def test_the_clients_of_a_trusted_proxy_come_as_fast_as_they_like() -> None:
    """A thousand at once is what one address may send; a proxy brings those of many."""
    metrics = SocketMetrics(CollectorRegistry())
    port = OpenSockets(10_000, metrics, proxies=TrustedProxies(["10.0.0.0/8"]))
    n_attempts = int(ACCEPT_BURST) + 10
    admitted_of = {
        host: sum(port.admit(host, 0.0) is not None for _ in range(n_attempts)) for host in ("10.0.0.1", "192.0.2.1")
    }
    assert admitted_of == {"10.0.0.1": n_attempts, "192.0.2.1": int(ACCEPT_BURST)}
