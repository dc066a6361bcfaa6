"""Tests of streamer/access/origins.py, with real handshakes."""

from __future__ import annotations

from collections.abc import AsyncIterator

import msgspec
import pytest
from websockets.exceptions import InvalidStatus

from streamer.config import ServerConfig
from tests.helpers.http_daemon import CONFIG, Daemon, receive, serving


@pytest.fixture
async def daemon() -> AsyncIterator[Daemon]:
    """A server on a loopback address."""
    async with serving() as running:
        yield running


class TestBrowserSafety:
    """Pages from elsewhere."""

    @pytest.mark.parametrize("origin", ["http://evil.test", "http://127.0.0.1:1", "null", "file://", "garbage"])
    async def test_a_page_of_a_foreign_origin_is_refused(self, daemon: Daemon, origin: str) -> None:
        """HTTP 403 before the handshake."""
        with pytest.raises(InvalidStatus) as refusal:
            async with daemon.connect(origin=origin):
                pass

        assert refusal.value.response.status_code == 403

    async def test_own_pages_and_allowed_origins_may_connect(self) -> None:
        """Those that the operator has named, with or without the default port."""
        server = ServerConfig(port=0, allowed_origins=("https://captions.example",))
        async with serving(msgspec.structs.replace(CONFIG, server=server)) as daemon:
            for origin in (daemon.url(""), "https://captions.example", "https://captions.example:443"):
                async with daemon.connect(origin=origin) as client:
                    assert (await receive(client))["type"] == "hello"

    async def test_pages_of_apps_and_extensions_may_connect_where_they_are_named(self) -> None:
        """By the whole origin, which has no port; the name in it is no name of the daemon."""
        apps = ("tauri://localhost", "chrome-extension://abcdefghijklmnop", "app://notes.example")
        server = ServerConfig(port=0, allowed_origins=apps)
        async with serving(msgspec.structs.replace(CONFIG, server=server)) as daemon:
            for origin in apps:
                async with daemon.connect(origin=origin) as client:
                    assert (await receive(client))["type"] == "hello"
            with pytest.raises(InvalidStatus):
                async with daemon.connect(origin="tauri://elsewhere"):
                    pass
            assert (await daemon.get("/healthz", Host="notes.example")).status_code == 403

    async def test_a_star_lets_every_origin_in(self) -> None:
        """`server.allowed_origins = [\"*\"]` opens the daemon to all pages."""
        server = ServerConfig(port=0, allowed_origins=("*",))
        config = msgspec.structs.replace(CONFIG, server=server)
        async with serving(config) as daemon, daemon.connect(origin="http://anything.test") as client:
            assert (await receive(client))["type"] == "hello"

    @pytest.mark.parametrize(
        ("host", "status"),
        [("127.0.0.1", 200), ("localhost:99", 200), ("[::1]:8000", 200), ("evil.test", 403), ("", 403)],
    )
    async def test_only_known_host_names_are_served_on_loopback(self, daemon: Daemon, host: str, status: int) -> None:
        """A page may point its own name at 127.0.0.1."""
        response = await daemon.get("/healthz", Host=host)

        assert response.status_code == status
