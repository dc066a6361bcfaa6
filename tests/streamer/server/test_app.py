"""Tests of streamer/server/app.py."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from websockets.exceptions import InvalidStatus

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
    async def test_are_served(self, daemon: Daemon, path: str, type_: str) -> None:
        """Pages and what they load are served, and not again when they have not changed."""
        response = await daemon.get(path)
        again = await daemon.get(path, **{"If-None-Match": response.headers["etag"]})

        assert response.status_code == 200
        assert type_ in response.headers["content-type"]
        assert again.status_code == 304 or path in ("/", "/overlay", "/watch/stage")

    async def test_no_path_leads_out_of_the_pages(self, daemon: Daemon) -> None:
        """Static files are those of the pages alone."""
        assert (await daemon.get("/pages/%2e%2e/config.py")).status_code == 404
        assert (await daemon.get("/nothing")).status_code == 404


class TestNowhere:
    """Paths where nothing is."""

    SAID = (
        "not found; paths for a websocket: /v1/captions, /v1/watch, /v1/watch/{room}, /v1/realtime, /v1/listen, /vosk\n"
    )

    async def test_a_socket_is_told_where_there_are_some(self, daemon: Daemon) -> None:
        """Refused with 404 before it is accepted: a 403 would send people looking for their key."""
        with pytest.raises(InvalidStatus) as refused:
            await daemon.connect("/v1/stream")
        response = refused.value.response
        assert (response.status_code, response.body) == (404, self.SAID.encode())

    @pytest.mark.parametrize("path", ["/v1/stream", "/v1/captions", "/pages/nothing.js"])
    async def test_requests_are_told_the_same(self, daemon: Daemon, path: str) -> None:
        """Where a socket is, HTTP finds nothing either."""
        response = await daemon.get(path)
        assert (response.status_code, response.text) == (404, self.SAID)
