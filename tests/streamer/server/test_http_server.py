"""Tests of streamer/server/http_server.py."""

from __future__ import annotations

import asyncio
import signal
import socket
import time
from email.utils import parsedate_to_datetime
from pathlib import Path

import httpx
import msgspec
import psutil
import pytest
import trustme
from prometheus_client import CollectorRegistry
from starlette.types import Receive, Scope, Send
from websockets.asyncio.client import connect, unix_connect

from streamer.access.keys import Keys
from streamer.access.tls import Certificate
from streamer.config import LimitsConfig, ServerConfig
from streamer.host.sockets import listen
from streamer.protocol.events import TurnEnd
from streamer.server import http_server
from streamer.server.app import build_app
from streamer.server.connection import Connections
from streamer.server.http_server import HttpServer
from tests.helpers.fake_scheduler import FakeScheduler
from tests.helpers.http_daemon import CONFIG, Daemon, receive, serving, start, within
from tests.streamer.access.test_tls import issue, trusting


class TestHttpServer:
    """The listening socket."""

    async def test_a_port_that_is_closed_while_the_server_begins_stays_closed(self) -> None:
        """As where a process is told to end as soon as it serves."""
        daemon = Daemon(CONFIG, FakeScheduler())
        await daemon.http.start()
        daemon.http.stop_accepting()
        await daemon.http.stop()

        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", daemon.port)

    async def test_a_unix_socket_is_served(self, tmp_path: Path) -> None:
        """Its address is its path."""
        path = tmp_path / "socket"
        config = msgspec.structs.replace(CONFIG, server=ServerConfig(host=f"unix:{path}"))
        app = build_app(FakeScheduler(), config, CollectorRegistry(), keys=Keys(), connections=Connections())
        server = HttpServer(app, config, [listen(f"unix:{path}", 0)])
        await server.start()
        transport = httpx.AsyncHTTPTransport(uds=str(path))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            assert (await client.get("/healthz")).text == "ok\n"
        async with unix_connect(str(path), "ws://localhost/v1/captions") as client:
            assert (await receive(client))["type"] == "hello"
        assert server.url == f"unix:{path}"
        await server.stop()
        assert not path.exists()

    async def test_a_handler_that_does_not_end_is_cancelled(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Once it has had its time: the server has stopped."""
        monkeypatch.setattr(http_server, "STOP_TIMEOUT_S", 0.05)
        begun, ended = asyncio.Event(), asyncio.Event()

        async def app(_scope: Scope, _receive: Receive, _send: Send) -> None:
            begun.set()
            try:
                await asyncio.Event().wait()
            finally:
                ended.set()

        server = HttpServer(app, CONFIG, [listen("127.0.0.1", 0)])
        await server.start()
        async with httpx.AsyncClient(trust_env=False) as client:
            asked = asyncio.create_task(client.get(server.url))
            await within(begun.wait())
            await server.stop()
            await within(ended.wait())
            await asyncio.gather(asked, return_exceptions=True)

    async def test_answers_have_their_date(self) -> None:
        """As a client needs it that caches."""
        async with serving() as daemon:
            assert parsedate_to_datetime((await daemon.get("/healthz")).headers["date"]).tzinfo is not None

    async def test_signals_are_left_alone(self) -> None:
        """The daemon drains on SIGTERM; the server must not act before it."""
        before = signal.getsignal(signal.SIGTERM)
        async with serving() as daemon:
            await daemon.get("/healthz")
            assert signal.getsignal(signal.SIGTERM) is before


class TestStalls:
    """Peers that hold a connection and do nothing with it."""

    async def test_a_peer_that_sends_no_request_is_cut(self) -> None:
        """A client that is served is not."""
        config = msgspec.structs.replace(CONFIG, limits=LimitsConfig(request_timeout_s=1.0))
        async with serving(config) as daemon, daemon.connect() as client:
            reader, writer = await asyncio.open_connection("127.0.0.1", daemon.port)
            writer.write(b"GET / HTTP/1.1\r\nHost:")
            assert await within(reader.read()) == b""
            writer.close()
            await start(client)

    async def test_a_short_websocket_over_tls_is_no_error(self, tmp_path: Path) -> None:
        """
        The clock of the first request stops when the WebSocket begins.

        It went on until it fired on a TLS transport that was closed by then, and each WebSocket shorter than the
        request timeout logged an AttributeError.
        """
        authority, errors = trustme.CA(), list[dict[str, object]]()
        asyncio.get_running_loop().set_exception_handler(lambda _, context: errors.append(context))
        config = msgspec.structs.replace(CONFIG, limits=LimitsConfig(request_timeout_s=1.0))
        certificate, client = Certificate(issue(authority, tmp_path)), trusting(authority)
        async with serving(config, tls=certificate.context) as daemon:
            url = f"wss://127.0.0.1:{daemon.port}/v1/captions"
            async with connect(url, ssl=client, proxy=None) as captions:
                await receive(captions)
            # its clock starts after that of the WebSocket: once it has fired, so would have the other
            reader, writer = await asyncio.open_connection("127.0.0.1", daemon.port, ssl=client)
            assert await within(reader.read()) == b""
            writer.close()

        assert errors == []

    async def test_a_client_that_stops_reading_loses_its_connection(self) -> None:
        """Its session is detached, and its descriptor is given back although its bytes were never taken."""
        config = msgspec.structs.replace(CONFIG, limits=LimitsConfig(send_timeout_s=0.3))
        async with serving(config) as daemon:
            before = psutil.Process().num_fds()
            client = socket.socket()
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.setblocking(False)
            loop = asyncio.get_running_loop()
            await loop.sock_connect(client, ("127.0.0.1", daemon.port))
            await loop.sock_sendall(client, HANDSHAKE)
            await within(loop.sock_recv(client, 1024))
            await loop.sock_sendall(client, text_frame(b'{"type":"start"}'))
            stream = await within(daemon.scheduler.wait_stream())
            for turn in range(200):
                stream.say(long_turn(turn))
            await within(stream.detached.wait())
            await asyncio.to_thread(wait_for_descriptors, before + 1)
            client.close()

        assert not stream.has_ended


def wait_for_descriptors(most: int) -> None:
    """Until no more are open: the kernel gives up on a connection by its own clock."""
    deadline = time.monotonic() + 60
    while psutil.Process().num_fds() > most:
        assert time.monotonic() < deadline, "a descriptor was not given back"
        time.sleep(0.05)


HANDSHAKE = (
    b"GET /v1/captions HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


def text_frame(payload: bytes) -> bytes:
    """A masked text frame, the mask being 0."""
    return bytes([0x81, 0x80 | len(payload), 0, 0, 0, 0]) + payload


def long_turn(turn: int) -> TurnEnd:
    """More than a socket holds, a few hundred times."""
    return TurnEnd(turn=turn, text="x" * 50_000, start_s=0.0, end_s=0.0, language="en", reason="silence")
