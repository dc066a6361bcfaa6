"""Tests of streamer/server.py."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from prometheus_client import Counter

from tests.helpers.http_daemon import Daemon, serving


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
            ("/watch/stage", "text/html"),
            ("/pages/client.d.ts", ""),
            ("/pages/live.js", "javascript"),
            ("/pages/page.css", "css"),
        ],
    )
    async def test_pages(self, daemon: Daemon, path: str, type_: str) -> None:
        """Pages and what they load are served, and not again when they have not changed."""
        response = await daemon.get(path)
        again = await daemon.get(path, **{"If-None-Match": response.headers["etag"]})

        assert response.status_code == 200
        assert type_ in response.headers["content-type"]
        assert again.status_code == 304 or path in ("/", "/overlay", "/watch/stage")

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
