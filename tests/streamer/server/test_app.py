"""Tests of streamer/server/app.py."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest
from websockets.exceptions import InvalidStatus

from tests.helpers.http_daemon import Daemon, serving


@pytest.fixture
async def daemon() -> AsyncIterator[Daemon]:
    """A server with nothing to say."""
    async with serving() as running:
        yield running


class TestNowhere:
    """Paths where nothing is."""

    SAID = (
        "not found; paths for a websocket: "
        "/v1/captions, /v1/watch, /v1/watch/{room}, /v1/realtime, /v1/listen, /vosk, /\n"
    )

    async def test_a_socket_is_told_where_there_are_some(self, daemon: Daemon) -> None:
        """Refused with 404 before it is accepted: a 403 would send people looking for their key."""
        with pytest.raises(InvalidStatus) as refused:
            await daemon.connect("/v1/stream")
        response = refused.value.response
        assert (response.status_code, response.body) == (404, self.SAID.encode())

    @pytest.mark.parametrize("path", ["/v1/stream", "/pages/nothing.js", "/v1/captions/x"])
    async def test_requests_are_told_the_same(self, daemon: Daemon, path: str) -> None:
        """Where nothing is, HTTP finds nothing either."""
        response = await daemon.get(path)
        assert (response.status_code, response.text) == (404, self.SAID)

    @pytest.mark.parametrize(
        "path",
        ["/v1/captions?room=stage", "/v1/watch", "/v1/realtime?model=x", "/v1/listen?encoding=linear16", "/vosk"],
    )
    @pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
    async def test_a_request_to_a_socket_is_told_to_upgrade(self, daemon: Daemon, path: str, method: str) -> None:
        """426 with the protocol to upgrade to (RFC 9110, 15.5.22)."""
        async with httpx.AsyncClient(trust_env=False) as client:
            response = await client.request(method, daemon.url(path))
        assert (response.status_code, response.headers["upgrade"]) == (426, "websocket")
        assert method == "HEAD" or "ws://" in response.text
