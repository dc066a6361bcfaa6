"""Tests of streamer/server/wire.py: deadlines in every state of a connection, and work in pieces."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
import trustme

from streamer.access.keys import Keys
from streamer.access.tls import Certificate
from streamer.config import LimitsConfig
from tests.helpers.http_daemon import CONFIG, Daemon, closing, receive, serving, start, within
from tests.streamer.access.test_tls import issue

IMPATIENT = msgspec.structs.replace(CONFIG, limits=LimitsConfig(request_timeout_s=0.2))
GET = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
UPGRADE = (
    b"GET /v1/captions HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n"
)


@pytest.fixture
async def impatient(tmp_path: Path) -> AsyncIterator[Daemon]:
    """A server with keys that waits for nobody."""
    (tmp_path / "keys").write_text("kitchen 0123456789abcdef\n")
    async with serving(IMPATIENT, keys=Keys(tmp_path / "keys")) as daemon:
        yield daemon


async def until_cut(daemon: Daemon, *sent: bytes) -> bytes:
    """What a peer gets that sends some bytes, then nothing, and never leaves."""
    reader, writer = await asyncio.open_connection("127.0.0.1", daemon.http.port)
    for part in sent:
        writer.write(part)
        await writer.drain()
    try:
        return bytes(await within(reader.read()))
    except ConnectionResetError:
        return b""
    finally:
        writer.close()


class TestDeadlines:
    """A peer that owes bytes and sends none is cut, whatever came before."""

    @pytest.mark.parametrize(
        ("sent", "status"),
        [
            ((b"",), b""),
            ((b"G",), b""),
            ((GET, b"G"), b"200"),
            ((GET + GET + b"GET / HTTP/1.1\r\n",), b"200"),
            ((b"POST /v1/tokens HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nx",), b"401"),
            ((b"POST /v1/tokens HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nx",), b"401"),
            ((b"POST /nowhere HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n",), b"404"),
            ((UPGRADE + b"X: " + b"y" * 9000 + b"\r\n\r\n",), b"431"),
            ((UPGRADE + b"X: y\r\n" * 200 + b"\r\n",), b"431"),
            ((UPGRADE.replace(b"/v1/captions", b"/" + b"y" * 9000) + b"\r\n",), b"414"),
            ((UPGRADE.replace(b"HTTP/1.1", b"HTTP/1.0") + b"\r\n",), b""),
            ((UPGRADE.replace(b"GET", b"POST") + b"Content-Length: 3\r\n\r\n",), b""),
            ((UPGRADE.replace(b"Version: 13", b"Version: 8") + b"\r\n",), b"400"),
        ],
    )
    async def test_a_peer_that_owes_bytes_is_cut(
        self, impatient: Daemon, sent: tuple[bytes, ...], status: bytes
    ) -> None:
        """It is answered before, where there is something to answer."""
        answer = await until_cut(impatient, *sent)

        assert status in answer[:20]

    async def test_half_a_handshake_of_tls_is_cut(self, tmp_path: Path) -> None:
        """asyncio would wait a minute for it."""
        certificate = Certificate(issue(trustme.CA(), tmp_path))
        async with serving(IMPATIENT, tls=certificate.context) as daemon:
            hello = ssl.MemoryBIO()
            client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).wrap_bio(ssl.MemoryBIO(), hello, server_hostname="x")
            with pytest.raises(ssl.SSLWantReadError):
                client.do_handshake()
            assert await until_cut(daemon, hello.read()[:50]) == b""

    async def test_a_connection_that_is_served_is_not_cut(self) -> None:
        """Neither a WebSocket nor a request whose handler takes its time."""
        async with serving(IMPATIENT) as daemon, daemon.connect() as client:
            await start(client)
            assert await until_cut(daemon, b"G") == b""
            await client.send(json.dumps({"type": "flush", "id": 1}))
            assert (await receive(client))["type"] == "flushed"


class TestPieces:
    """Floods of one peer, beside others."""

    async def test_a_flood_of_frames_is_answered_in_order(self) -> None:
        """However many frames came at once: nothing is lost, and the close of the client is seen."""
        async with serving() as daemon, daemon.connect() as client:
            await start(client)
            flood = bytes([0x82, 0x80, 0, 0, 0, 0]) * 600
            client.transport.write(flood)
            await client.send(json.dumps({"type": "flush", "id": 7}))
            assert (await receive(client))["id"] == 7
            await client.send('{"type":"end"}')
            messages, code = await closing(client)

        assert messages[-1]["type"] == "bye"
        assert code == 1000

    async def test_frames_above_the_rate_wait(self) -> None:
        """They are read later, and other connections are served meanwhile."""
        config = msgspec.structs.replace(CONFIG, limits=LimitsConfig(messages_per_s=1.0))
        async with serving(config) as daemon, daemon.connect(close_timeout=0.1) as flooding, daemon.connect() as other:
            await start(flooding)
            flooding.transport.write((bytes([0x89, 0x80 | 30, 0, 0, 0, 0]) + bytes(30)) * 380)
            await flooding.send(json.dumps({"type": "flush", "id": 7}))
            await start(other)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.3):
                    await flooding.recv()
            flooding.transport.abort()

    async def test_a_body_of_tiny_chunks_holds_nobody_up(self) -> None:
        """A request beside it is answered while it is read."""
        body = b"".join(b"1\r\nx\r\n" for _ in range(30_000))
        head = b"POST /v1/audio/transcriptions HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n"
        kind = b"Content-Type: multipart/form-data; boundary=x\r\n\r\n"
        async with serving() as daemon:
            reader, writer = await asyncio.open_connection("127.0.0.1", daemon.http.port)
            writer.write(head + kind + body + b"0\r\n\r\n")
            assert (await daemon.get("/healthz")).status_code == 200
            assert b"400" in await within(reader.readline())
            writer.close()
            await writer.wait_closed()

    async def test_frames_in_the_segment_of_the_upgrade_are_read(self) -> None:
        """A client that does not wait for the answer loses nothing that lies behind the first piece."""
        padding = b"".join(b"X-%d: %s\r\n" % (n, b"y" * 500) for n in range(17))
        hello = b'{"type":"start"}'
        frame = bytes([0x81, 0x80 | len(hello), 0, 0, 0, 0]) + hello
        async with serving() as daemon:
            reader, writer = await asyncio.open_connection("127.0.0.1", daemon.http.port)
            writer.write(UPGRADE + padding + b"\r\n")
            writer.write(frame)
            answer = await within(reader.readuntil(b'"started"'))
            writer.close()
            await writer.wait_closed()

        assert answer.startswith(b"HTTP/1.1 101")
