"""Tests of streamer/access/connection_limits.py: bounds on connections and on their rate."""

from __future__ import annotations

import json
from contextlib import AsyncExitStack

import httpx
import msgspec
import pytest
from websockets.exceptions import InvalidStatus

from streamer.config import LimitsConfig
from tests.helpers.http_daemon import CONFIG, Daemon, receive, serving


async def refusal(daemon: Daemon) -> tuple[int, str, dict[str, object]]:
    """Status, Retry-After and body of a WebSocket that is refused."""
    with pytest.raises(InvalidStatus) as refused:
        async with daemon.connect():
            pass
    response = refused.value.response
    return response.status_code, response.headers["retry-after"], json.loads(response.body)


async def test_a_connection_beyond_the_limit_is_refused() -> None:
    """One too many gets 503 and when to come back; a place that is left can be taken."""
    config = msgspec.structs.replace(CONFIG, limits=LimitsConfig(max_connections=2))
    async with serving(config) as daemon:
        async with AsyncExitStack() as stack:
            for path in ("/v1/captions", "/v1/watch"):
                await receive(await stack.enter_async_context(daemon.connect(path)))
            watching = await stack.enter_async_context(daemon.connect())
            await receive(watching)
            status, retry_after, body = await refusal(daemon)
        async with daemon.connect() as client:
            assert (await receive(client))["type"] == "hello"
        metrics = (await daemon.get("/metrics")).text

    assert (status, retry_after, body["code"], body["retry_after_s"]) == (503, "5", "overloaded", 5.0)
    assert 'streamer_connections_refused_total{reason="connections"} 1.0' in metrics


async def test_callers_above_their_rate_are_refused() -> None:
    """429, for uploads as for WebSockets; reading is free."""
    config = msgspec.structs.replace(CONFIG, limits=LimitsConfig(handshakes_per_s=0.5))
    async with serving(config) as daemon:
        async with daemon.connect() as client:
            await receive(client)
        status, retry_after, body = await refusal(daemon)
        async with httpx.AsyncClient(trust_env=False) as http:
            upload = await http.post(daemon.url("/v1/tokens"))
        assert (await daemon.get("/healthz")).status_code == 200

    assert (status, retry_after, body["code"]) == (429, "2", "overloaded")
    assert upload.status_code == 429
