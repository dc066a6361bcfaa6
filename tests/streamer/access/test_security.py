"""Tests of streamer/access/security.py, with real handshakes."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import msgspec
import pytest
from websockets.exceptions import InvalidStatus

from streamer.config import ServerConfig
from tests.helpers.http_daemon import CONFIG, Daemon, closing, receive, serving


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


async def raw(daemon: Daemon, request: bytes) -> tuple[int, str]:
    """Status and everything that is answered to bytes that no client would send."""
    reader, writer = await asyncio.open_connection("127.0.0.1", daemon.http.port)
    writer.write(request)
    async with asyncio.timeout(10):
        answer = (await reader.read()).decode("latin-1")
    writer.close()
    return int(answer.split()[1]), answer


class TestHostileRequests:
    """Bytes on the wire that no well-meaning client sends."""

    @pytest.mark.parametrize(
        "path",
        [
            "/pages/../config.py",
            "/pages/%2e%2e/config.py",
            "/pages/..%2fconfig.py",
            "/pages/%252e%252e/config.py",
            "/pages/....//config.py",
            "/pages/..\\config.py",
            "/pages//etc/passwd",
            "/pages/%2fetc%2fpasswd",
            "/pages/live.js%00.css",
            "//etc/passwd",
            "/../../etc/passwd",
            "/v1/captions/../../etc/passwd",
        ],
    )
    async def test_paths(self, daemon: Daemon, path: str) -> None:
        """None leads out of the pages; the answer says nothing of the disk."""
        status, answer = await raw(
            daemon, f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()
        )

        assert status in (400, 404)
        assert "root:" not in answer
        assert "streamer" not in answer

    @pytest.mark.parametrize(
        "request_",
        [
            b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: a\rSet-Cookie: b\r\nConnection: close\r\n\r\n",
            b"GET /healthz HTTP/1.1\r\nHost: localhost\nSet-Cookie: b\0\r\nConnection: close\r\n\r\n",
            b"GET /healthz\r\nSet-Cookie: b HTTP/1.1\r\nHost: localhost\r\n\r\n",
            b"GET /healthz%0d%0aSet-Cookie:%20b HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
            b"POST /v1/tokens HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer a%0d%0aSet-Cookie: b\r\n"
            b"Connection: close\r\n\r\n",
            b"POST /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n"
            b"Connection: close\r\n\r\n0\r\n\r\n",
        ],
    )
    async def test_headers(self, daemon: Daemon, request_: bytes) -> None:
        """Nothing that is sent becomes a header of the answer."""
        status, answer = await raw(daemon, request_)

        assert 400 <= status < 500
        assert "set-cookie" not in answer.lower()

    async def test_a_subprotocol_is_never_said_back(self, daemon: Daemon) -> None:
        """Only our own is answered, whatever else is offered: a key is offered there."""
        offered = ["auth.secret-secret-secret", "captions.v1"]
        async with daemon.connect(subprotocols=offered) as client:
            assert client.subprotocol == "captions.v1"
            assert "secret" not in str(client.response.headers)

    async def test_compressed_frames(self, daemon: Daemon) -> None:
        """A frame that claims to be compressed is an error: no bomb is unpacked."""
        async with daemon.connect() as client:
            await receive(client)
            client.transport.write(bytes([0x80 | 0x40 | 0x1, 0x80 | 5, 0, 0, 0, 0]) + b"bombs")
            _, code = await closing(client)

        assert code == 1002

    async def test_headers_without_end(self, daemon: Daemon) -> None:
        """They are cut before they fill the memory."""
        reader, writer = await asyncio.open_connection("127.0.0.1", daemon.http.port)
        writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n")
        with contextlib.suppress(ConnectionError):
            for _ in range(200):
                writer.write(b"X: " + b"x" * 1000 + b"\r\n")
                await writer.drain()
            async with asyncio.timeout(10):
                assert b" 400 " in (await reader.read())[:20]
        writer.close()
