"""Tests of streamer/server/websocket.py, and of a client that takes nothing."""

from __future__ import annotations

import asyncio
import json

import pytest
from starlette.types import Message
from starlette.websockets import WebSocket, WebSocketDisconnect

from streamer.access.keys import Caller
from streamer.config import Config, LimitsConfig
from streamer.errors import EngineError, ProtocolError, StreamerError
from streamer.protocol.events import Speech
from streamer.server import websocket
from streamer.server.connection import Connection
from streamer.server.rooms.rooms import Rooms
from tests.helpers.fake_scheduler import FakeScheduler


class Client:
    """The other end of an ASGI connection, which takes `n_taken` messages and then no more."""

    def __init__(self, *texts: str, n_taken: int) -> None:
        self._incoming: list[Message] = [{"type": "websocket.connect"}]
        self._incoming += [{"type": "websocket.receive", "text": text} for text in texts]
        self._n_taken = n_taken
        self.taken: list[Message] = []
        scope = {"type": "websocket", "path": "/", "headers": [], "query_string": b"", "subprotocols": []}
        self.socket = WebSocket(scope, self._receive, self._send)

    async def _receive(self) -> Message:
        if not self._incoming:
            await asyncio.Event().wait()
        return self._incoming.pop(0)

    async def _send(self, message: Message) -> None:
        if len(self.taken) >= self._n_taken:
            await asyncio.Event().wait()
        self.taken.append(message)


async def test_send_gives_up_on_a_client_that_takes_nothing() -> None:
    """It counts as lost."""
    client = Client(n_taken=1)
    await websocket.accept(client.socket)

    with pytest.raises(WebSocketDisconnect):
        await websocket.send(client.socket, "text", timeout_s=0.01)


async def test_stuck_client_is_detached() -> None:
    """Its session is kept as for any lost connection; accept, hello and started had arrived."""
    client = Client(json.dumps({"type": "start"}), n_taken=3)
    scheduler = FakeScheduler([(0.0, Speech(state="started", at_s=0.0))])
    impatient = Config(limits=LimitsConfig(send_timeout_s=0.1))
    connection = Connection(client.socket, scheduler, impatient, Caller(), Rooms(Config()))
    running = asyncio.create_task(connection.run())
    stream = await scheduler.wait_stream()
    stream.say(Speech(state="started", at_s=0.0))
    await running

    assert stream.detached.is_set()
    assert not stream.has_ended
    assert [message["type"] for message in client.taken] == ["websocket.accept"] + 2 * ["websocket.send"]


async def test_cancelled_connection_is_detached() -> None:
    """Stopping the server loses no session."""
    client = Client(json.dumps({"type": "start"}), n_taken=100)
    scheduler = FakeScheduler()
    running = asyncio.create_task(Connection(client.socket, scheduler, Config(), Caller(), Rooms(Config())).run())
    stream = await scheduler.wait_stream()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)

    assert stream.detached.is_set()


@pytest.mark.parametrize(
    ("raised", "told"),
    [
        (WebSocketDisconnect(1006), None),
        (ProtocolError("idle", "silent for 60 s"), "silent for 60 s"),
        (EngineError("device lost"), "device lost"),
    ],
)
@pytest.mark.parametrize("has_left", [False, True])
async def test_foreseen_ends_are_told_and_over(raised: Exception, told: str | None, has_left: bool) -> None:
    """Whoever is there is told why; whoever leaves, before it or over it, is no error."""
    messages: list[str] = []

    async def tell(error: StreamerError) -> None:
        messages.append(str(error))
        if has_left:
            raise WebSocketDisconnect(1006)

    async with websocket.telling_errors(tell):
        raise raised

    assert messages == ([told] if told else [])


async def test_unforeseen_error_is_told_without_its_inside_and_raised() -> None:
    """The log gets it; the client learns no more than that it is not at fault."""
    messages: list[str] = []

    async def tell(error: StreamerError) -> None:
        messages.append(str(error))
        raise WebSocketDisconnect(1006)

    with pytest.raises(KeyError, match="secret"):
        async with websocket.telling_errors(tell):
            raise KeyError("secret")

    assert messages == ["a fault of the daemon; its log says more"]


async def test_run_until_first_raises_what_ended_it() -> None:
    """The other is cancelled, and has ended before the call returns."""
    cleaned: list[str] = []

    async def wait() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cleaned.append("waiter")

    async def fail() -> None:
        await asyncio.sleep(0)
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        await websocket.run_until_first(wait(), fail())

    assert cleaned == ["waiter"]
