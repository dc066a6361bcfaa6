"""Tests of streamer/access/cross_origin.py: what a browser lets a page of another site do."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import msgspec
import pytest

from streamer.config import LimitsConfig, ServerConfig
from tests.helpers.http_daemon import CONFIG, Daemon, serving

SITE = "https://talks.example"


@pytest.fixture
async def daemon() -> AsyncIterator[Daemon]:
    """A server that one other site may use."""
    server = ServerConfig(port=0, allowed_origins=(SITE,))
    async with serving(msgspec.structs.replace(CONFIG, server=server)) as running:
        yield running


async def ask(daemon: Daemon, method: str, path: str, **headers: str) -> httpx.Response:
    """An answer to a browser."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    async with httpx.AsyncClient(trust_env=False) as client:
        return await client.request(method, daemon.url(path), headers=named)


@pytest.mark.parametrize("path", ["/pages/client.js", "/pages/sources.js", "/pages/worklet.js", "/info", "/nowhere"])
async def test_an_allowed_page_may_read_every_response(daemon: Daemon, path: str) -> None:
    """The modules of the client, facts, and errors."""
    headers = (await ask(daemon, "GET", path, Origin=SITE, Sec_Fetch_Site="cross-site")).headers
    assert headers["access-control-allow-origin"] == SITE
    assert headers["cross-origin-resource-policy"] == "cross-origin"
    assert "Origin" in headers["vary"]


@pytest.mark.parametrize("origin", ["https://evil.example", "http://talks.example", "null", "garbage"])
@pytest.mark.parametrize("method", ["GET", "OPTIONS"])
async def test_another_page_may_read_none(daemon: Daemon, origin: str, method: str) -> None:
    """It is refused, without a word that a browser would take for leave."""
    asked = {"Origin": origin, "Access_Control_Request_Method": "POST"}
    response = await ask(daemon, method, "/pages/client.js", **asked)
    assert response.status_code == 403
    assert not [name for name in response.headers if name.startswith("access-control")]
    assert response.headers["cross-origin-resource-policy"] == "same-origin"


@pytest.mark.parametrize(
    "path", ["/v1/audio/transcriptions", "/v1/realtime/client_secrets", "/v1/tokens", "/v1/models"]
)
async def test_an_allowed_page_may_post_with_a_key(daemon: Daemon, path: str) -> None:
    """The preflight of OpenAI's library in a browser, which sends headers of its own."""
    wanted = "authorization, content-type, x-stainless-lang"
    asked = {"Access_Control_Request_Method": "POST", "Access_Control_Request_Headers": wanted}
    response = await ask(daemon, "OPTIONS", path, Origin=SITE, Sec_Fetch_Site="cross-site", **asked)
    assert response.status_code == 204
    assert response.headers["access-control-allow-origin"] == SITE
    assert response.headers["access-control-allow-headers"] == wanted
    assert "POST" in response.headers["access-control-allow-methods"]
    assert "access-control-allow-private-network" not in response.headers
    asked["Access_Control_Request_Private_Network"] = "true"
    response = await ask(daemon, "OPTIONS", path, Origin=SITE, **asked)
    assert response.headers["access-control-allow-private-network"] == "true"


async def test_an_allowed_page_sees_why_it_was_refused() -> None:
    """The refusal of a limit has the headers too, and preflights count for the limit."""
    server, limits = ServerConfig(port=0, allowed_origins=("*",)), LimitsConfig(requests_per_s=0.1)
    async with serving(msgspec.structs.replace(CONFIG, server=server, limits=limits)) as daemon:
        asked = {"Origin": "http://any.example", "Access_Control_Request_Method": "POST"}
        responses = [await ask(daemon, "OPTIONS", "/v1/tokens", **asked) for _ in range(3)]
    assert [response.status_code for response in responses] == [204, 204, 429]
    assert {response.headers["access-control-allow-origin"] for response in responses} == {"http://any.example"}
    assert responses[2].headers["access-control-expose-headers"] == "*"


async def test_a_program_gets_no_such_headers(daemon: Daemon) -> None:
    """It sends no origin; `OPTIONS` without a question is answered as before."""
    assert "access-control-allow-origin" not in (await daemon.get("/info")).headers
    assert (await ask(daemon, "OPTIONS", "/info")).status_code == 405
