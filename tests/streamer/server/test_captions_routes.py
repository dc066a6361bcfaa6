"""Tests of streamer/server/captions_routes.py: who is let in; test_connection and test_viewers cover what is said."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from websockets.exceptions import InvalidStatus

from streamer.access.keys import Keys
from streamer.protocol.schema import schema_text
from tests.helpers.http_daemon import Daemon, closing, receive, serving

KEY = "kitchen-0123456789abcdef"


class TestKeys:
    """A daemon that asks for them."""

    @pytest.fixture
    async def daemon(self, tmp_path: Path) -> AsyncIterator[Daemon]:
        """A server with one key."""
        (tmp_path / "keys").write_text(f"kitchen {KEY}\n")
        async with serving(keys=Keys(tmp_path / "keys")) as running:
            yield running

    async def ask_token(self, daemon: Daemon, **headers: str) -> httpx.Response:
        """As a program does for its page."""
        async with httpx.AsyncClient(trust_env=False) as client:
            return await client.post(daemon.url("/v1/tokens"), headers=headers)

    @pytest.mark.parametrize("path", ["/v1/captions", "/v1/watch"])
    async def test_a_program_without_key(self, daemon: Daemon, path: str) -> None:
        """HTTP 401 before the handshake, with the reason and the challenge."""
        with pytest.raises(InvalidStatus) as refusal:
            async with daemon.connect(path):
                pass

        response = refusal.value.response
        assert (response.status_code, response.headers["www-authenticate"]) == (401, "Bearer")
        assert json.loads(response.body)["code"] == "unauthorized"

    @pytest.mark.parametrize("path", ["/v1/captions", "/v1/watch"])
    async def test_a_page_without_key(self, daemon: Daemon, path: str) -> None:
        """It cannot see an HTTP answer: it is told in a message, then closed with 4401."""
        async with daemon.connect(path, origin=daemon.url("")) as page:
            messages, code = await closing(page)

        assert [(message["type"], message["code"]) for message in messages] == [("error", "unauthorized")]
        assert code == 4401

    async def test_with_key(self, daemon: Daemon) -> None:
        """A header is enough."""
        async with daemon.connect(additional_headers={"Authorization": f"Bearer {KEY}"}) as client:
            assert (await receive(client))["type"] == "hello"

    async def test_a_page_with_a_token(self, daemon: Daemon) -> None:
        """The token comes as a subprotocol, which is not said back."""
        response = await self.ask_token(daemon, Authorization=f"Bearer {KEY}")
        offered = ["captions.v1", f"auth.{response.json()['token']}"]
        async with daemon.connect(origin=daemon.url(""), subprotocols=offered) as page:
            assert (await receive(page))["type"] == "hello"

        assert page.subprotocol == "captions.v1"
        assert response.headers["cache-control"] == "no-store"

    async def test_no_token_without_key(self, daemon: Daemon) -> None:
        """Neither for nothing, nor for a token."""
        token = (await self.ask_token(daemon, Authorization=f"Bearer {KEY}")).json()["token"]

        for headers in ({}, {"Authorization": f"Basic {KEY}"}):
            assert (await self.ask_token(daemon, **headers)).status_code == 401
        refused = await self.ask_token(daemon, Authorization=f"Bearer {token}")
        assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")


async def test_the_schema_is_served_to_everybody(tmp_path: Path) -> None:
    """The document that the structs give, without a key: it is needed before anything is sent."""
    (tmp_path / "keys").write_text(f"kitchen {KEY}\n")
    async with serving(keys=Keys(tmp_path / "keys")) as daemon:
        answer = await daemon.get("/v1/captions/schema.json")

    assert (answer.status_code, answer.text) == (200, schema_text())
    assert answer.headers["content-type"] == "application/schema+json"
