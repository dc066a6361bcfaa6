"""Tests of streamer/server/page_routes.py."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.helpers.http_daemon import Daemon, serving


@pytest.fixture
async def daemon() -> AsyncIterator[Daemon]:
    """A server with nothing to say."""
    async with serving() as running:
        yield running


class TestPages:
    """What a browser loads."""

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
    async def test_pages_are_served(self, daemon: Daemon, path: str, type_: str) -> None:
        """Scripts and styles are not sent again while they have not changed."""
        response = await daemon.get(path)
        again = await daemon.get(path, **{"If-None-Match": response.headers.get("etag", "none")})

        assert response.status_code == 200
        assert type_ in response.headers["content-type"]
        assert again.status_code == 304 or path in ("/", "/overlay", "/watch/stage")

    async def test_a_part_of_a_page_is_not_made(self, daemon: Daemon) -> None:
        """Ranges cost more than their question; who asks for one gets all."""
        response = await daemon.get("/pages/page.css", Range="bytes=0-1,4-5")
        assert response.status_code == 200
        assert response.content == (await daemon.get("/pages/page.css")).content

    async def test_no_path_leads_out_of_the_pages(self, daemon: Daemon) -> None:
        """Static files are those of the pages alone."""
        assert (await daemon.get("/pages/%2e%2e/config.py")).status_code == 404
        assert (await daemon.get("/nothing")).status_code == 404
