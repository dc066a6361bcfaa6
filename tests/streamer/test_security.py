"""Tests of streamer/security.py, with real handshakes."""

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
    async def test_foreign_origin(self, daemon: Daemon, origin: str) -> None:
        """A page of another origin gets 403 before the handshake."""
        with pytest.raises(InvalidStatus) as refusal:
            async with daemon.connect(origin=origin):
                pass

        assert refusal.value.response.status_code == 403

    async def test_own_and_allowed_origins(self) -> None:
        """The daemon's own pages and those the operator named may connect."""
        server = ServerConfig(port=0, allowed_origins=("https://captions.example",))
        async with serving(msgspec.structs.replace(CONFIG, server=server)) as daemon:
            for origin in (daemon.url(""), "https://captions.example", "https://captions.example:443"):
                async with daemon.connect(origin=origin) as client:
                    assert (await receive(client))["type"] == "hello"

    async def test_every_origin(self) -> None:
        """`*` opens the daemon to all pages."""
        server = ServerConfig(port=0, allowed_origins=("*",))
        config = msgspec.structs.replace(CONFIG, server=server)
        async with serving(config) as daemon, daemon.connect(origin="http://anything.test") as client:
            assert (await receive(client))["type"] == "hello"

    @pytest.mark.parametrize(
        ("host", "status"),
        [("127.0.0.1", 200), ("localhost:99", 200), ("[::1]:8000", 200), ("evil.test", 403), ("", 403)],
    )
    async def test_host_names_on_loopback(self, daemon: Daemon, host: str, status: int) -> None:
        """A foreign name that points here is refused."""
        response = await daemon.get("/healthz", Host=host)

        assert response.status_code == status

    async def test_page_headers(self, daemon: Daemon) -> None:
        """Pages load nothing from elsewhere and cannot be framed."""
        response = await daemon.get("/")

        assert response.headers["content-security-policy"].startswith("default-src 'self'")
        assert response.headers["x-frame-options"] == "DENY"
        assert response.headers["x-content-type-options"] == "nosniff"
        assert response.headers["cache-control"] == "no-cache"
