"""Tests of streamer/access/connection_limits.py: bounds on connections and on their rate."""

from __future__ import annotations

import json
from contextlib import AsyncExitStack

import httpx
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.exceptions import InvalidStatus

from streamer.access.connection_limits import RateLimit
from streamer.config import LimitsConfig
from tests.helpers.http_daemon import CONFIG, Daemon, receive, serving


class TestRateLimit:
    """The bucket."""

    def test_a_quiet_caller_has_a_burst_and_then_the_rate(self) -> None:
        """The wait that is returned is the right one."""
        limit = RateLimit(rate=2.0, burst=3.0)

        assert [limit.wait_s("a", 0.0) for _ in range(4)] == [0.0, 0.0, 0.0, 0.5]
        assert limit.wait_s("a", 0.25) == 0.25
        assert limit.wait_s("a", 0.5) == 0.0

    def test_callers_do_not_share_a_bucket(self) -> None:
        """One who floods costs another nothing."""
        limit = RateLimit(rate=1.0, burst=1.0)
        assert limit.wait_s("a", 0.0) == 0.0
        assert limit.wait_s("a", 0.0) > 0
        assert limit.wait_s("b", 0.0) == 0.0

    def test_no_more_callers_are_remembered_than_allowed(self) -> None:
        """The caller whose last attempt is oldest is forgotten, and starts with a full bucket."""
        limit = RateLimit(rate=1.0, burst=1.0, max_callers=2)
        for caller in "abc":
            assert limit.wait_s(caller, 0.0) == 0.0
        assert limit.wait_s("c", 0.0) > 0
        assert limit.wait_s("b", 0.0) > 0
        assert limit.wait_s("a", 0.0) == 0.0

    @given(st.lists(st.floats(0, 100), max_size=200))
    def test_no_stretch_of_time_sees_more_than_burst_and_rate(self, times: list[float]) -> None:
        """Over any stretch: burst + rate * seconds at most."""
        limit = RateLimit(rate=3.0, burst=5.0)
        allowed = [at for at in sorted(times) if not limit.wait_s("a", at)]
        for first, start in enumerate(allowed):
            for last, stop in enumerate(allowed[first:], first):
                assert last - first + 1 <= 5.0 + 3.0 * (stop - start) + 1e-6


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
