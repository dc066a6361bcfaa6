"""Tests of streamer/server/uvicorn_protocols.py: deadlines in every state of a connection, and work in pieces."""

from __future__ import annotations

import asyncio
import gc
import json
import ssl
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import msgspec
import pytest
import trustme
import uvicorn
from prometheus_client import CollectorRegistry
from starlette.types import Receive, Scope, Send
from uvicorn.server import ServerState

from benchmarks.scale.clock import run
from streamer.access.allowances import Allowance
from streamer.access.keys import Keys
from streamer.access.open_sockets import OpenSockets
from streamer.access.tls import Certificate
from streamer.access.token_buckets import Bucket
from streamer.config import LimitsConfig
from streamer.server import probe
from streamer.server.pieces import ParseQueue
from streamer.server.uvicorn_protocols import HalfMessages, HttpProtocol, WebSocketProtocol
from streamer.telemetry.metrics import SocketMetrics
from tests.helpers.http_daemon import CONFIG, Daemon, closing, receive, serving, start, within
from tests.helpers.waiting import until
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
    reader, writer = await asyncio.open_connection("127.0.0.1", daemon.port)
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
            ((GET * 500,), b"200"),
            ((b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X: y\r\n" * 300 + b"\r\n",), b"400"),
            ((GET[:-2] + b"X: y\n" * 300 + b"\n",), b"400"),
            (
                (
                    b"POST /nowhere HTTP/1.1\r\nHost: localhost\r\nContent-Length: 60000\r\n\r\n" + bytes(60_000),
                    GET[:-2] + b"X: y\r\n" * 9000 + b"\r\n",
                ),
                b"404",
            ),
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


class TestTakingNothing:
    """A peer that sends and does not read what it is answered."""

    @pytest.mark.parametrize("kind", ["http", "websocket"])
    async def test_a_peer_that_takes_no_bytes_is_cut(self, kind: str) -> None:
        """After `send_timeout_s`."""
        protocol, transport = accepted() if kind == "websocket" else connected()
        protocol.pause_writing()
        await within(transport.closed.wait())

    async def test_a_peer_that_takes_no_bytes_is_waited_for(self) -> None:
        """So it is among those that are cut where there are too many."""
        protocol, _ = connected()
        protocol.conn.receive_data(GET)
        protocol.handle_events()
        protocol.slot.work()
        protocol.pause_writing()
        assert protocol.slot.is_waiting
        protocol.resume_writing()
        assert not protocol.slot.is_waiting

    async def test_pings_of_a_peer_that_takes_no_pongs_are_passed_over(self) -> None:
        """Each would take memory until the peer is cut; those that come later are answered."""
        protocol, transport = accepted()
        protocol.pause_writing()
        protocol.conn.receive_data(PING)
        protocol.handle_events()
        assert transport.written == b""
        protocol.resume_writing()
        protocol.conn.receive_data(PING)
        protocol.handle_events()
        assert transport.written == b"\x8a\x04ping"

    async def test_a_late_pong_brings_no_more_pings(self) -> None:
        """The audio of a client may stand before its pong for most of the time between two pings."""
        protocol, transport = accepted()
        protocol.ping_interval, protocol.ping_timeout = 20.0, None
        protocol.send_keepalive_ping()
        protocol.ping_sent_at -= 19.9
        protocol.conn.receive_data(fragment(transport.written[2:], 0x8A))
        protocol.handle_events()
        protocol.send_keepalive_ping()
        assert protocol.ping_timer is not None
        assert protocol.ping_timer.when() - protocol.loop.time() == pytest.approx(20.0, abs=1.0)
        protocol.stop_keepalive()


async def test_who_shows_a_key_behind_tls_is_not_cut() -> None:
    """Where many wait for their peer; a stranger may be, as before."""
    for shown, is_known in ((b"a key", True), (b"another", False)):
        protocol, _ = connected()
        protocol.knows = lambda data: b"a key" in data
        protocol.data_received(GET[:-2] + b"Authorization: Bearer " + shown)
        assert (protocol.slot.is_known, protocol.slot.is_waiting) == (is_known, not is_known)
        protocol.connection_lost(None)


class TestHalves:
    """Messages that have begun."""

    async def test_a_message_in_many_fragments_is_read(self) -> None:
        """Empty ones among them take no memory."""
        parts = [b"", *(bytes([byte]) for byte in b'{"type":"start"}'), *[b""] * 300]
        async with serving() as daemon, daemon.connect() as client:
            client.transport.write(b"".join(fragment(part, 0 if n else 1) for n, part in enumerate(parts)))
            client.transport.write(fragment(b"", 0x80))
            assert [(await receive(client))["type"] for _ in range(2)] == ["hello", "started"]

    async def test_a_text_that_is_not_utf8_closes(self, caplog: pytest.LogCaptureFixture) -> None:
        """With the code for it, and without a line in the log."""
        async with serving() as daemon, daemon.connect() as client:
            client.transport.write(fragment(b"\xff", 0x81))
            _, code = await closing(client)

        assert code == 1007
        assert caplog.text == ""

    def test_nobody_has_more_than_is_left(self) -> None:
        """But everybody has a little."""
        halves = HalfMessages(100_000)
        assert halves.change(0, 50_000)
        assert not halves.change(0, 60_000)
        halves.change(60_000, 0)
        assert halves.change(0, 20_000)
        assert halves.change(0, 16_000)
        assert not halves.change(16_000, 17_000)

    async def test_a_half_too_many_closes_its_connection(self) -> None:
        """The others keep theirs."""
        protocol, transport = accepted(HalfMessages(30_000))
        protocol.data_received(bytes([0x82, 0xFE, 0x70, 0x00, 0, 0, 0, 0]) + bytes(20_000))
        await within(transport.closed.wait())
        assert b"\x03\xf5" in transport.written


def fragment(payload: bytes, first: int) -> bytes:
    """A masked frame of up to 125 bytes, the mask being 0; `first`: its first byte."""
    return bytes([first, 0x80 | len(payload), 0, 0, 0, 0]) + payload


PING = fragment(b"ping", 0x89)
HALF = bytes([0x82, 0xFE, 0xFF, 0xFF, 0, 0, 0, 0]) + bytes(30_000)
"""Of a message."""
SOON_S = 0.02
"""Time in which a peer of these tests takes what waits for it."""


class Sink(asyncio.Transport):
    """Keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.protocol: asyncio.BaseProtocol = asyncio.Protocol()
        self.closed = asyncio.Event()

    def get_protocol(self) -> asyncio.BaseProtocol:
        """Of the connection."""
        return self.protocol

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Keep it."""
        self.written += bytes(data)

    def is_closing(self) -> bool:
        """Whether it was closed."""
        return self.closed.is_set()

    def close(self) -> None:
        """Note that it is closed."""
        self.closed.set()

    abort = close

    def pause_reading(self) -> None:
        """Nothing is read."""

    def resume_reading(self) -> None:
        """Nothing is read."""


async def silent(scope: Scope, receive: Receive, send: Send) -> None:
    """An application that says nothing."""
    await asyncio.Event().wait()


async def over(scope: Scope, receive: Receive, send: Send) -> None:
    """An application that ends at once."""


def server_config() -> uvicorn.Config:
    """Of a server with that application."""
    config = uvicorn.Config(silent, ws_max_size=200_000, log_config=None)
    config.load()
    return config


def connected() -> tuple[HttpProtocol, Sink]:
    """The server's side of a new connection."""
    protocol, sink = HttpProtocol(server_config(), ServerState(), {}), Sink()
    protocol.request_timeout_s, protocol.send_timeout_s = 10.0, SOON_S
    protocol.parse_queue = ParseQueue(asyncio.get_running_loop())
    slot = OpenSockets(10, SocketMetrics(CollectorRegistry())).admit("192.0.2.1", 0.0)
    assert slot is not None
    protocol.slot = slot
    protocol.connection_made(sink)
    return protocol, sink


def accepted(halves: HalfMessages | None = None) -> tuple[WebSocketProtocol, Sink]:
    """The server's side of a WebSocket after its handshake."""
    protocol, sink = asked(halves)
    protocol.conn.send_response(protocol.response)
    protocol.conn.data_to_send()
    protocol.handshake_complete = True
    return protocol, sink


def asked(halves: HalfMessages | None = None) -> tuple[WebSocketProtocol, Sink]:
    """The server's side of a WebSocket that waits for the answer to its handshake."""
    protocol, sink = WebSocketProtocol(server_config(), ServerState(), {}), Sink()
    protocol.request_timeout_s, protocol.send_timeout_s = 10.0, SOON_S
    protocol.frames_per_s, protocol.parse_queue = 100.0, ParseQueue(asyncio.get_running_loop())
    protocol.halves = halves or HalfMessages()
    protocol.connection_made(sink)
    protocol.conn.receive_data(UPGRADE + b"\r\n")
    protocol.handle_events()
    return protocol, sink


async def test_who_leaves_in_the_handshake_is_no_error(caplog: pytest.LogCaptureFixture) -> None:
    """The application is told that the client has left, and the log nothing."""

    async def greeting(scope: Scope, receive: Receive, send: Send) -> None:
        sink.close()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": "hello"})

    protocol, sink = asked()
    protocol.app = greeting
    await asyncio.gather(*protocol.tasks)
    assert not caplog.records


@pytest.mark.parametrize("message", [{"type": "websocket.send", "text": "hello"}, {"type": "websocket.close"}])
async def test_who_is_answered_after_a_fault_in_the_frames_has_left(
    caplog: pytest.LogCaptureFixture, message: dict[str, str]
) -> None:
    """An application that does not know yet that its connection was closed makes no traceback."""

    async def talking(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "websocket.accept"})
        protocol.data_received(fragment(b"\xff\xfe", 0x81))
        await until(lambda: protocol.close_sent)
        await send(message)

    protocol, sink = asked()
    protocol.app = talking
    await asyncio.gather(*protocol.tasks)
    assert sink.closed.is_set() or protocol.close_sent
    assert not caplog.records


async def test_a_request_whose_rest_is_malformed_is_answered_once(caplog: pytest.LogCaptureFixture) -> None:
    """With 400, whatever the application was about to say."""

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        await until(sink.closed.is_set)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"late"})
        over.set()

    over = asyncio.Event()
    protocol, sink = connected()
    protocol.app = slow
    protocol.data_received(b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nno chunk\r\n")
    await within(over.wait())
    assert sink.written.startswith(b"HTTP/1.1 400")
    assert b"late" not in sink.written
    assert all(record.levelname == "WARNING" for record in caplog.records)


@pytest.fixture
def uncollected() -> Iterator[None]:
    """No collection of garbage meanwhile."""
    gc.disable()
    yield
    gc.enable()


@pytest.mark.parametrize("make", [connected, accepted])
@pytest.mark.usefixtures("uncollected")
async def test_a_lost_connection_is_freed_at_once(
    make: Callable[[], tuple[HttpProtocol | WebSocketProtocol, Sink]],
) -> None:
    """Nothing holds it in a circle: thousands that end together leave no garbage that everybody waits for."""
    protocol, _ = make()
    protocol.app = over
    await asyncio.sleep(0)  # the application of a handshake begins, and ends
    protocol.conn.receive_data(HALF)
    protocol.connection_lost(None)
    await asyncio.sleep(0)  # what was due for the connection has run
    freed = weakref.ref(protocol), weakref.ref(protocol.conn)
    del protocol
    assert [one() for one in freed] == [None, None]


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

    def test_bytes_above_the_rate_of_their_caller_wait(self) -> None:
        """However few frames they are in: they are read at that rate, and in the end all of them."""

        async def main() -> float:
            protocol, sink = accepted()
            protocol.allowance = Allowance()
            protocol.allowance.received = Bucket(rate=10_000, burst=0)
            protocol.data_received((bytes([0x89, 0x80 | 125, 0, 0, 0, 0]) + bytes(125)) * 160)
            while len(sink.written) < 160 * 127:  # noqa: ASYNC110 - on a simulated clock
                await asyncio.sleep(0.01)
            return asyncio.get_running_loop().time()

        assert 1.0 < run(main()) < 2.1

    @pytest.mark.parametrize("flood", [bytes([0x89, 0x80, 0, 0, 0, 0]), bytes([0x00, 0x80, 0, 0, 0, 0])])
    async def test_who_leaves_behind_a_flood_has_left(self, flood: bytes) -> None:
        """Although the end of the connection waits behind frames that are read much later."""
        config = msgspec.structs.replace(CONFIG, limits=LimitsConfig(messages_per_s=1.0))
        async with serving(config) as daemon, daemon.connect() as client:
            await start(client)
            client.transport.write(fragment(b"", 0x01))
            while not client.transport.get_write_buffer_size():
                client.transport.write(flood * 50_000)
            client.transport.abort()
            await until(lambda: not len(daemon.connections), 10.0)

    @pytest.mark.parametrize("held_by", ["budget", "application"])
    async def test_who_is_not_read_is_asked(self, held_by: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """By a ping, whether it sends too much or the application takes nothing."""
        monkeypatch.setattr(probe, "PROBE_S", 0.001)
        protocol, sink = accepted()
        protocol.data_received(PING * 2000 if held_by == "budget" else fragment(b"x" * 100, 0x82) * 1000)
        await until(lambda: b"\x89\x00" in sink.written)
        protocol.connection_lost(None)

    async def test_a_body_of_tiny_chunks_holds_nobody_up(self) -> None:
        """A request beside it is answered while it is read."""
        body = b"".join(b"1\r\nx\r\n" for _ in range(30_000))
        head = b"POST /v1/audio/transcriptions HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n"
        kind = b"Content-Type: multipart/form-data; boundary=x\r\n\r\n"
        async with serving() as daemon:
            reader, writer = await asyncio.open_connection("127.0.0.1", daemon.port)
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
            reader, writer = await asyncio.open_connection("127.0.0.1", daemon.port)
            writer.write(UPGRADE + padding + b"\r\n")
            writer.write(frame)
            answer = await within(reader.readuntil(b'"started"'))
            writer.close()
            await writer.wait_closed()

        assert answer.startswith(b"HTTP/1.1 101")
