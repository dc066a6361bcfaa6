"""Bytes that no well-meaning client sends, against the whole application over loopback sockets."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import socket
from collections.abc import AsyncIterator

import pytest

from streamer.audio.opus import preload
from streamer.host.event_loop import fair_loop
from tests.helpers.http_daemon import Daemon, closing, receive, serving
from tests.helpers.unheld_loop import unheld_loop


@pytest.fixture
async def daemon() -> AsyncIterator[Daemon]:
    """A server on a loopback address, with what the daemon loads before it serves."""
    preload()
    async with serving() as running:
        yield running


async def raw(daemon: Daemon, request: bytes) -> tuple[int, str]:
    """Status and everything that is answered to bytes that no client would send."""
    reader, writer = await asyncio.open_connection("127.0.0.1", daemon.port)
    writer.write(request)
    async with asyncio.timeout(120):
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
    async def test_no_path_leads_out_of_the_pages(self, daemon: Daemon, path: str) -> None:
        """And the answer says nothing of the disk."""
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
    async def test_nothing_in_a_request_becomes_a_header_of_the_answer(self, daemon: Daemon, request_: bytes) -> None:
        """Line ends in names, values, paths and keys are refused or escaped."""
        status, answer = await raw(daemon, request_)

        assert 400 <= status < 500
        assert "set-cookie" not in answer.lower()

    async def test_an_offered_key_is_never_answered(self, daemon: Daemon) -> None:
        """Only our own is answered, whatever else is offered: a key is offered there."""
        offered = ["auth.secret-secret-secret", "captions.v1"]
        async with daemon.connect(subprotocols=offered) as client:
            assert client.subprotocol == "captions.v1"
            assert "secret" not in str(client.response.headers)

    async def test_a_compressed_frame_closes_the_connection(self, daemon: Daemon) -> None:
        """A frame that claims to be compressed is an error: no bomb is unpacked."""
        async with daemon.connect() as client:
            await receive(client)
            client.transport.write(bytes([0x80 | 0x40 | 0x1, 0x80 | 5, 0, 0, 0, 0]) + b"bombs")
            _, code = await closing(client)

        assert code == 1002

    async def test_headers_without_end_are_cut(self, daemon: Daemon) -> None:
        """They are cut before they fill the memory."""
        reader, writer = await asyncio.open_connection("127.0.0.1", daemon.port)
        writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n")
        with contextlib.suppress(ConnectionError):
            for _ in range(200):
                writer.write(b"X: " + b"x" * 1000 + b"\r\n")
                await writer.drain()
            async with asyncio.timeout(120):
                assert b" 400 " in (await reader.read())[:20]
        writer.close()


UPGRADE = (
    b"GET /v1/captions HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
FORM = (
    b"POST /v1/audio/transcriptions HTTP/1.1\r\nHost: localhost\r\n"
    b"Content-Type: multipart/form-data; boundary=x; charset=punycode\r\n"
)
FIELD = b'--x\r\nContent-Disposition: form-data; name="prompt"\r\n\r\n'


def frame(opcode: int, payload: bytes = b"") -> bytes:
    """A masked frame, the mask being 0."""
    n = len(payload)
    size = bytes([0x80 | n]) if n < 126 else bytes([0xFE]) + n.to_bytes(2, "big")
    return bytes([0x80 | opcode]) + size + bytes(4) + payload


CHANCE = random.Random(1).randbytes(100_000)
HEADS = {"MP3": b"ID3\x04\0\0\0\0\0\0", "Ogg": b"OggS\0\x02", "FLAC": b"fLaC\0\0\0\x22" + bytes(34)}
LIVE = UPGRADE + frame(1, b'{"type":"start","audio":{"encoding":"container"}}')
FLOODS = {
    "empty frames": UPGRADE + frame(1, b'{"type":"start"}') + frame(2) * 30_000,
    "pings": UPGRADE + frame(9, b"x" * 20) * 10_000,
    "pieces of a message": UPGRADE + bytes([0x01, 0x80, 0, 0, 0, 0]) + bytes([0x00, 0x80, 0, 0, 0, 0]) * 30_000,
    "elements of webm": UPGRADE
    + frame(1, b'{"type":"start","audio":{"encoding":"webm_opus"}}')
    + frame(2, b"\x1a\x45\xdf\xa3\x80" + b"\xec\x80" * 30_000),
    "wrong types": UPGRADE + frame(1, b'{"type":"start"}') + frame(1, b'{"type":"flush","id":1}') * 5_000,
    "pipelined reads": b"GET /info HTTP/1.1\r\nHost: localhost\r\n\r\n" * 5_000,
    "a charset of the sender": FORM + b"Content-Length: 60000\r\n\r\n" + FIELD + b"abc-" * 15_000,
    "many fields": FORM + b"Content-Length: 600000\r\n\r\n" + FIELD * 10_000,
    "tiny chunks": FORM + b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 50_000,
    "long headers": b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X: y\r\n" * 50_000,
    "brackets": UPGRADE + frame(1, b'{"type":' + b"[" * 60_000),
    "frames without mask before the answer": UPGRADE + b"\x81\x02{}" * 5_000,
    "headers behind a body": b"POST /nowhere HTTP/1.1\r\nHost: localhost\r\nContent-Length: 60000\r\n\r\n"
    + bytes(60_000)
    + b"GET / HTTP/1.1\r\nHost: localhost\r\n"
    + b"a:\r\n" * 16_000
    + b"\r\n",
    "trailers": FORM + b"Transfer-Encoding: chunked\r\n\r\n0\r\n" + b"a:\r\n" * 16_000 + b"\r\n",
    "ranges": b"GET /pages/page.css HTTP/1.1\r\nHost: localhost\r\nRange: bytes="
    + b",".join(b"%d-%d" % (n, n) for n in range(0, 4000, 2))
    + b"\r\n\r\n",
    "pipelined schemas": b"GET /v1/captions/schema.json HTTP/1.1\r\nHost: localhost\r\n\r\n" * 200,
    "pipelined metrics": b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n" * 200,
    "texts that are not UTF-8": UPGRADE + frame(1, b"\xff" * 60_000),
    "channels": UPGRADE.replace(b"captions", b"listen?encoding=mulaw&sample_rate=8000&channels=8&multichannel=true")
    + frame(2, bytes(64_000)) * 8,
    "another prompt each time": UPGRADE
    + frame(1, b'{"type":"start"}')
    + b"".join(frame(1, b'{"type":"update","prompt":"%d"}' % n) for n in range(500)),
    **{f"a damaged live {name}": LIVE + frame(2, head + CHANCE[:60_000]) for name, head in HEADS.items()},
    "digits": UPGRADE + frame(1, b'{"type":"flush","id":' + b"9" * 60_000 + b"}"),
}


@pytest.mark.parametrize("flood", FLOODS)
async def test_a_flood_holds_nobody_up(daemon: Daemon, flood: str) -> None:
    """Each kind of cheap input, all at once on one connection: the loop is held 50 ms at most, and no error is left."""
    errors = list[dict[str, object]]()
    asyncio.get_running_loop().set_exception_handler(lambda _, context: errors.append(context))
    async with unheld_loop():
        reader, writer = await asyncio.open_connection("127.0.0.1", daemon.port)
        writer.write(FLOODS[flood])
        # not by httpx, whose clients load certificates for a tenth of a second
        assert (await raw(daemon, b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"))[0] == 200
        with contextlib.suppress(ConnectionError, TimeoutError):
            async with asyncio.timeout(0.5):
                await reader.read()
        writer.transport.abort()
    assert (await daemon.get("/healthz")).status_code == 200
    assert errors == []


GET = b"GET /info HTTP/1.1\r\nHost: localhost\r\n\r\n"
PAST = [{"turn": n, "text": "word " * 20} for n in range(400)]
CROWDS = {
    "silent": b"",
    "half a head": GET[:20],
    "requests": GET,
    "requests, and a byte of the next": GET + b"G",
    "requests behind each other": GET * 20,
    "pages": GET.replace(b"info", b"pages/page.css"),
    "bodies after a refusal": b"POST /nowhere HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999\r\n\r\n"
    + bytes(9999),
    "handshakes": UPGRADE,
    "sessions": UPGRADE + frame(1, b'{"type":"start"}'),
    "halves of messages": UPGRADE + frame(1, b'{"type":"start"}') + frame(2, bytes(60_000))[:30_000],
    "speakers that begin again": UPGRADE
    + frame(1, json.dumps({"type": "start", "resume": {"session": "s", "token": "t", "turns": PAST}}).encode()),
}
"""What each of 200 connections sends that come at the same moment."""


HEALTH = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


async def crowded(crowd: bytes) -> None:
    """A server to which 200 connections come at once, send the same, and leave together."""

    def come(port: int) -> list[socket.socket]:
        members = [socket.create_connection(("127.0.0.1", port)) for _ in range(200)]
        for member in members:
            member.sendall(crowd)
        return members

    async with serving() as daemon, unheld_loop():
        members = await asyncio.to_thread(come, daemon.port)
        assert (await raw(daemon, HEALTH))[0] == 200
        for member in members:
            member.close()
        assert (await raw(daemon, HEALTH))[0] == 200


@pytest.mark.parametrize("crowd", CROWDS)
def test_a_crowd_holds_nobody_up(crowd: str) -> None:
    """However much each of its members costs: everything else has its turn between them, and when they leave."""
    preload()
    with asyncio.Runner(loop_factory=fair_loop) as runner:
        runner.run(crowded(CROWDS[crowd]))
