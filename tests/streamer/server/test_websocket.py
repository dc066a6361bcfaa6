"""Tests of streamer/server/websocket.py: clients that take nothing, and refused handshakes."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from streamer.access.keys import Keys, Right
from streamer.server import websocket
from streamer.server.duplex import ClientGone
from streamer.server.websocket import WebSocketTransport
from tests.helpers.asgi_client import AsgiClient

TIMEOUT_S = 0.05
PAGE = ((b"origin", b"http://localhost"),)
"""Header of a browser's handshake."""


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    """One key, which nobody shows."""
    (tmp_path / "keys").write_text("box 0123456789abcdef\n")
    return Keys(tmp_path / "keys")


async def test_a_client_that_takes_no_message_is_gone_after_the_send_timeout() -> None:
    """For a text as for a close."""
    client = AsgiClient(n_taken=1)
    await websocket.accept(client.socket)
    transport = WebSocketTransport(client.socket, TIMEOUT_S)

    async with asyncio.timeout(120):
        with pytest.raises(ClientGone):
            await transport.send("text")
        with pytest.raises(ClientGone):
            await transport.close(1000)


async def test_a_full_queue_holds_nobody_up() -> None:
    """However many messages a client takes at once: between two of them everything else has its turn."""
    client = AsgiClient(n_taken=9)
    await websocket.accept(client.socket)
    transport = WebSocketTransport(client.socket, TIMEOUT_S)
    others = asyncio.Event()
    asyncio.get_running_loop().call_soon(others.set)

    await transport.send("text")

    assert others.is_set()


async def test_a_page_without_a_key_is_told_and_closed(keys: Keys) -> None:
    """A browser hides the HTTP response of a refused handshake."""
    client = AsgiClient(n_taken=100, headers=PAGE)

    assert await websocket.identify(client.socket, keys, Right.SPEAK, TIMEOUT_S) is None
    assert client.taken_types == ["websocket.accept", "websocket.send", "websocket.close"]
    assert json.loads(client.taken[1]["text"])["code"] == "unauthorized"
    assert client.taken[2]["code"] == 4401


async def test_a_refused_page_that_takes_nothing_is_let_go_after_the_send_timeout(keys: Keys) -> None:
    """It holds its connection no longer than any other client."""
    client = AsgiClient(n_taken=1, headers=PAGE)

    async with asyncio.timeout(120):
        assert await websocket.identify(client.socket, keys, Right.SPEAK, TIMEOUT_S) is None

    assert client.taken_types == ["websocket.accept"]


async def test_a_reason_is_cut_to_what_a_close_frame_holds() -> None:
    """At a whole character."""
    client = AsgiClient(n_taken=100)
    await websocket.accept(client.socket)
    await WebSocketTransport(client.socket, TIMEOUT_S).close(1008, "ü" * 100)

    assert client.taken[-1]["reason"] == "ü" * (websocket.MAX_REASON_BYTES // 2)
