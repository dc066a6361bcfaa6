"""Tests of streamer/access/forwarded.py: whom a request comes from, whatever its client writes."""

from __future__ import annotations

import msgspec
import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from starlette.datastructures import Headers
from websockets.exceptions import InvalidStatus

from streamer.access.forwarded import UNKNOWN, Hop, TrustedProxies, first_client
from streamer.config import Config, LimitsConfig, ServerConfig
from tests.helpers.http_daemon import CONFIG, Daemon, receive, serving

PROXIES = TrustedProxies(["127.0.0.1", "10.0.0.0/8", "fd00::/8"])
STRANGER = "203.0.113.7"
# what a client may send in a header: no control characters, since HTTP has none
written = st.text(st.characters(min_codepoint=32, max_codepoint=255, exclude_characters="\x7f"), max_size=60)
inside = st.sampled_from(["10.1.2.3", "10.255.0.1", "127.0.0.1", "fd00::1"])


def headers(*lines: tuple[str, str]) -> Headers:
    """As a server reads them, in order."""
    return Headers(raw=[(name.encode(), value.encode("latin-1")) for name, value in lines])


def client(*lines: tuple[str, str]) -> str | None:
    """Address of the client of a request with these headers."""
    found = first_client(headers(*lines), PROXIES)
    return found.client if found else None


@given(written, st.lists(inside, max_size=3), st.booleans())
def test_what_a_client_writes_before_the_proxies_changes_nothing(
    spoofed: str, chain: list[str], in_one_line: bool
) -> None:
    """Each proxy adds its peer at the right end: the first one that is no proxy is the client."""
    told = ", ".join([STRANGER, *chain])
    if in_one_line:
        assert client(("x-forwarded-for", f"{spoofed}, {told}")) == STRANGER
    else:
        assert client(("x-forwarded-for", spoofed), ("x-forwarded-for", told)) == STRANGER


@given(written, st.lists(inside, max_size=3))
def test_the_standard_header_is_read_alike(spoofed: str, chain: list[str]) -> None:
    """Nor can a quote or a semicolon of the client swallow what the proxies add."""
    told = ", ".join(f'for="{address}";proto=https;by=10.0.0.1' for address in [STRANGER, *chain])
    assert client(("forwarded", f"{spoofed}, {told}")) == STRANGER


@given(written, written)
def test_nothing_that_a_client_writes_is_an_error(first: str, second: str) -> None:
    """Any two headers name an address, or nobody."""
    found = client(("x-forwarded-for", first), ("forwarded", second), ("x-forwarded-host", second))
    assert found is not None
    assert found == UNKNOWN or ":" in found or found.count(".") == 3


@given(written)
def test_the_header_that_a_proxy_does_not_write_cannot_name_another_client(spoofed: str) -> None:
    """A proxy passes it on as the client sent it: the two do not agree, and the client gains no name by that."""
    found = client(("x-forwarded-for", STRANGER), ("forwarded", f"for={spoofed}"))
    assert found in (STRANGER, UNKNOWN)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("192.0.2.1:4711", "192.0.2.1"),
        ("2001:db8::1", "2001:db8::1"),
        ("[2001:DB8::1]:4711", "2001:db8::1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("unknown", UNKNOWN),
        ("_hidden", UNKNOWN),
        ("unix:", UNKNOWN),
        ("", UNKNOWN),
    ],
)
def test_an_address_is_written_in_many_ways(text: str, address: str) -> None:
    """With a port, in brackets, of IPv4 in IPv6; a proxy may also tell none."""
    assert client(("x-forwarded-for", text)) == address
    assert client(("forwarded", f'For="{text}"')) == address


def test_a_chain_of_proxies_alone_begins_with_its_first() -> None:
    """A request that a trusted machine itself sends."""
    assert client(("x-forwarded-for", "10.0.0.9, 10.0.0.1")) == "10.0.0.9"
    assert client() is None


def test_scheme_and_host_are_those_of_the_client() -> None:
    """Of a header of their own, or of the element of the same proxy."""
    told = [("x-forwarded-for", STRANGER), ("x-forwarded-proto", "http, HTTPS"), ("x-forwarded-host", "a.test, b.test")]
    assert first_client(headers(*told), PROXIES) == Hop(STRANGER, "https", "b.test")
    element = (
        "forwarded",
        f"for=1.2.3.4;host=c.test, for={STRANGER};host=d.test;proto=https, for=10.0.0.1;host=e.test",
    )
    assert first_client(headers(element), PROXIES) == Hop(STRANGER, "https", "d.test")


@pytest.mark.parametrize(
    ("entries", "host", "is_trusted"),
    [
        ((), "127.0.0.1", False),
        ((), "", False),
        (("unix",), "", True),
        (("unix",), "127.0.0.1", False),
        (("10.0.0.1/8",), "::ffff:10.9.9.9", True),
        (("10.0.0.0/8",), "11.0.0.1", False),
        (("fe80::/10",), "fe80::1%eth0", True),
        (("0.0.0.0/0", "::/0"), "not an address", False),
    ],
)
def test_a_proxy_is_trusted_by_its_address(entries: tuple[str, ...], host: str, is_trusted: bool) -> None:
    """Or as a peer of a Unix socket, when told so."""
    assert TrustedProxies(entries).trusts(host) == is_trusted


def configured(**server: object) -> Config:
    """A daemon that lets a caller connect once in a while."""
    return msgspec.structs.replace(
        CONFIG, server=ServerConfig(port=0, **server), limits=LimitsConfig(handshakes_per_s=0.5)
    )


async def attempts(daemon: Daemon, *forwarded: str) -> list[bool]:
    """Whether a connection with each of these `X-Forwarded-For` is let in."""
    let_in = []
    for value in forwarded:
        try:
            async with daemon.connect(additional_headers={"X-Forwarded-For": value}) as socket:
                let_in.append((await receive(socket))["type"] == "hello")
        except InvalidStatus as refused:
            let_in.append(refused.response.status_code != 429)
    return let_in


async def test_limits_count_the_clients_of_a_trusted_proxy() -> None:
    """Each for itself, and none by a name that it has made up."""
    async with serving(configured(trusted_proxies=("127.0.0.0/8",))) as daemon:
        let_in = await attempts(daemon, "192.0.2.1", "192.0.2.2", "192.0.2.1", "198.51.100.9, 192.0.2.1", "192.0.2.3")
    assert let_in == [True, True, False, False, True]


async def test_the_log_names_the_client_that_was_refused() -> None:
    """Not the proxy."""
    with structlog.testing.capture_logs(processors=[structlog.contextvars.merge_contextvars]) as lines:
        async with serving(configured(trusted_proxies=("127.0.0.1",))) as daemon:
            await attempts(daemon, "192.0.2.1", "192.0.2.1")
    [refused] = [line for line in lines if line["event"] == "connection_refused"]
    assert refused["address"] == "192.0.2.1"


async def test_limits_count_a_proxy_that_is_not_trusted() -> None:
    """By default what a header says counts for nothing."""
    async with serving(configured()) as daemon:
        assert await attempts(daemon, "192.0.2.1", "192.0.2.2", "192.0.2.3") == [True, False, False]


@pytest.mark.parametrize(("trusted", "status"), [(("127.0.0.1",), 200), ((), 403)])
async def test_a_page_is_the_daemons_own_by_the_host_that_a_trusted_proxy_tells(
    trusted: tuple[str, ...], status: int
) -> None:
    """A proxy may replace `Host` by the daemon's address."""
    told = {"X-Forwarded-For": STRANGER, "X-Forwarded-Proto": "https", "X-Forwarded-Host": "localhost"}
    async with serving(configured(trusted_proxies=trusted)) as daemon:
        response = await daemon.get("/healthz", Origin="https://localhost", **told)
    assert response.status_code == status
