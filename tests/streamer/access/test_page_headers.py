"""Tests of streamer/access/page_headers.py."""

from __future__ import annotations

import httpx
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from streamer.access.page_headers import PageHeaders
from tests.helpers.http_daemon import serving


async def test_pages_load_nothing_from_elsewhere_and_cannot_be_framed() -> None:
    """Every response says so; a page is fetched again after the daemon was updated."""
    async with serving() as daemon:
        response = await daemon.get("/")

    assert response.headers["content-security-policy"].startswith("default-src 'self'")
    assert response.headers["x-frame-options"] == "DENY"
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["cache-control"] == "no-cache"


async def test_a_response_keeps_its_own_cache_control() -> None:
    """A token must not be cached at all."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await PlainTextResponse("secret", headers={"Cache-Control": "no-store"})(scope, receive, send)

    transport = httpx.ASGITransport(PageHeaders(app))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        response = await client.get("/")

    assert response.headers["cache-control"] == "no-store"
    assert response.headers["x-frame-options"] == "DENY"
