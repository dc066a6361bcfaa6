"""Tests of streamer/access/connection_limits.py: bounds on connections and on their rate."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import httpx
import msgspec
import pytest
from websockets.exceptions import InvalidStatus

from streamer.access.keys import Keys
from streamer.config import LimitsConfig
from tests.helpers.http_daemon import CONFIG, Daemon, receive, serving, within


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


async def test_a_stranger_spends_nothing_of_a_key(tmp_path: Path) -> None:
    """Behind one proxy all have one address: whoever shows a valid key has a budget of its own."""
    (tmp_path / "keys").write_text("kitchen 0123456789abcdef\noffice fedcba9876543210\n")
    config = msgspec.structs.replace(CONFIG, limits=LimitsConfig(handshakes_per_s=0.5))
    async with serving(config, keys=Keys(tmp_path / "keys")) as daemon, httpx.AsyncClient(trust_env=False) as client:

        async def ask(key: str) -> int:
            headers = {"Authorization": f"Bearer {key}"}
            return (await client.post(daemon.url("/v1/tokens"), headers=headers)).status_code

        strangers = [await ask(f"wrong-wrong-wrong-{n}") for n in range(4)]
        kitchen = [await ask("0123456789abcdef") for _ in range(4)]
        office = await ask("fedcba9876543210")

    assert (strangers, kitchen, office) == ([401, 429, 429, 429], [200, 429, 429, 429], 200)


async def test_one_key_leaves_connections_for_others(tmp_path: Path) -> None:
    """It gets as many as are left free, so that there is one for the next key."""
    (tmp_path / "keys").write_text("kitchen 0123456789abcdef\noffice fedcba9876543210\n")
    config = msgspec.structs.replace(CONFIG, limits=LimitsConfig(max_connections=5))

    async with serving(config, keys=Keys(tmp_path / "keys")) as daemon, AsyncExitStack() as stack:

        async def connect(key: str) -> bool:
            shows = {"Authorization": f"Bearer {key}"}
            with suppress(InvalidStatus):
                await receive(await stack.enter_async_context(daemon.connect(additional_headers=shows)))
                return True
            return False

        kitchen = [await connect("0123456789abcdef") for _ in range(5)]
        office = await connect("fedcba9876543210")

    assert (sum(kitchen), office) == (3, True)


async def test_reading_above_the_rate_waits_and_is_refused_at_last() -> None:
    """A refusal closes the connection, so that what was pipelined behind it costs nothing."""
    config = msgspec.structs.replace(CONFIG, limits=LimitsConfig(requests_per_s=0.2))
    async with serving(config) as daemon:
        first = await daemon.get("/healthz")
        reader, writer = await asyncio.open_connection("127.0.0.1", daemon.port)
        writer.write(b"GET /info HTTP/1.1\r\nHost: localhost\r\n\r\n" * 500)
        answers = (await within(reader.read())).decode()
        writer.close()

    assert first.status_code == 200
    assert answers.count("HTTP/1.1 200") <= 1
    assert answers.count("HTTP/1.1 429") == 1
