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

    @pytest.mark.parametrize("path", ["/v1/stream", "/v1/captions", "/pages/nothing.js"])
    async def test_requests_are_told_the_same(self, daemon: Daemon, path: str) -> None:
        """Where a socket is, HTTP finds nothing either."""
        response = await daemon.get(path)
        assert (response.status_code, response.text) == (404, self.SAID)
