"""Tests of streamer/server.py."""

from __future__ import annotations

import signal
import socket
from collections.abc import AsyncIterator

import msgspec
import pytest
from prometheus_client import CollectorRegistry, Counter
from websockets.asyncio.client import connect

from streamer.config import ServerConfig
from streamer.errors import StreamerError
from streamer.server import HttpServer, build_app
from tests.helpers.fake_scheduler import FakeScheduler
from tests.helpers.http_daemon import CONFIG, Daemon, receive, serving


@pytest.fixture
async def daemon() -> AsyncIterator[Daemon]:
    """A server with nothing to say."""
    async with serving() as running:
        yield running


class TestHttp:
    """The plain requests."""

    @pytest.mark.parametrize(
        ("path", "type_"),
        [
            ("/", "text/html"),
            ("/overlay", "text/html"),
            ("/pages/live.js", "javascript"),
            ("/pages/live.css", "css"),
        ],
    )
    async def test_pages(self, daemon: Daemon, path: str, type_: str) -> None:
        """Pages and what they load are served, and not again when they have not changed."""
        response = await daemon.get(path)
        again = await daemon.get(path, **{"If-None-Match": response.headers["etag"]})

        assert response.status_code == 200
        assert type_ in response.headers["content-type"]
        assert again.status_code == 304 or path in ("/", "/overlay")

    async def test_health_and_readiness(self, daemon: Daemon) -> None:
        """Alive at once, ready when the scheduler says so."""
        assert (await daemon.get("/healthz")).status_code == 200
        assert (await daemon.get("/readyz")).status_code == 200
        daemon.scheduler.ready = False
        assert (await daemon.get("/readyz")).status_code == 503

    async def test_metrics(self, daemon: Daemon) -> None:
        """The registry that was given is shown."""
        Counter("captions_shown", "Captions.", registry=daemon.metrics).inc(3)

        response = await daemon.get("/metrics")

        assert response.headers["content-type"].startswith("text/plain; version=")
        assert "captions_shown_total 3.0" in response.text

    async def test_info(self, daemon: Daemon) -> None:
        """What the page needs to offer a choice."""
        info = (await daemon.get("/info")).json()

        assert (info["model"], info["languages"]) == ("fake", ["en", "de", "fr"])

    async def test_no_path_leads_out_of_the_pages(self, daemon: Daemon) -> None:
        """Static files are those of the pages alone."""
        assert (await daemon.get("/pages/%2e%2e/config.py")).status_code == 404
        assert (await daemon.get("/nothing")).status_code == 404


class TestHttpServer:
    """The listening socket."""

    async def test_taken_port(self) -> None:
        """The error names port, address and reason."""
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            config = msgspec.structs.replace(CONFIG, server=ServerConfig(port=port))
            server = Daemon(config, FakeScheduler()).http

            with pytest.raises(StreamerError, match=f"port {port} on 127.0.0.1 is in use: address already in use"):
                await server.start()

    async def test_foreign_address(self) -> None:
        """An address of another machine cannot be listened on."""
        config = msgspec.structs.replace(CONFIG, server=ServerConfig(host="192.0.2.1", port=0))

        with pytest.raises(StreamerError, match=r"port 0 on 192\.0\.2\.1 is not available"):
            await Daemon(config, FakeScheduler()).http.start()

    async def test_socket_handed_over(self) -> None:
        """A socket opened by someone else is used as it is."""
        inherited = socket.create_server(("127.0.0.1", 0))
        app = build_app(FakeScheduler(), CONFIG, CollectorRegistry())
        server = HttpServer(app, CONFIG.server, [inherited])
        await server.start()
        port = inherited.getsockname()[1]
        async with connect(f"ws://127.0.0.1:{port}/v1/captions", proxy=None) as client:
            assert (await receive(client))["type"] == "hello"
        await server.stop()

        assert port != CONFIG.server.port

    async def test_signals_are_left_alone(self) -> None:
        """The daemon drains on SIGTERM; the server must not act before it."""
        before = signal.getsignal(signal.SIGTERM)
        async with serving() as daemon:
            await daemon.get("/healthz")
            assert signal.getsignal(signal.SIGTERM) is before
