"""A server on loopback with scripted sessions, and a client's side of `captions.v1`."""

from __future__ import annotations

import asyncio
import functools
import json
import ssl
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

import httpx
from prometheus_client import CollectorRegistry
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from streamer.access.early_keys import shows_key
from streamer.access.keys import Keys
from streamer.config import Config, ServerConfig
from streamer.host.sockets import listen
from streamer.server.app import build_app
from streamer.server.connection import Connections
from streamer.server.http_server import HttpServer
from streamer.server.rooms.room import Room
from tests.helpers.fake_scheduler import FakeScheduler

CONFIG = Config(server=ServerConfig(port=0, idle_s=30.0, max_frame_bytes=100_000))
SECOND = bytes(2 * 16000)
"""A second of audio in the default format."""
PATIENCE_S = 60.0
"""Longest wait for what comes at once, seconds: a machine may be full of other work."""

Message: TypeAlias = dict[str, Any]


class Daemon:
    """A running server and what it is made of."""

    def __init__(
        self,
        config: Config,
        scheduler: FakeScheduler,
        microphone: Room | None = None,
        keys: Keys | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.scheduler, keys = scheduler, keys or Keys()
        self.connections = Connections()
        self.metrics = CollectorRegistry()
        app = build_app(scheduler, config, self.metrics, keys=keys, connections=self.connections, microphone=microphone)
        knows = functools.partial(shows_key, keys=keys)
        listening = listen(config.server.host, config.server.port)
        self.port = int(listening.getsockname()[1])
        self.http = HttpServer(app, config, [listening], tls=tls, knows=knows)

    def url(self, path: str, scheme: str = "http") -> str:
        """Address of a path."""
        return f"{scheme}://127.0.0.1:{self.port}{path}"

    def connect(self, path: str = "/v1/captions", **options: Any) -> connect:
        """A WebSocket client."""
        options.setdefault("subprotocols", ["captions.v1"])
        return connect(self.url(path, "ws"), compression=None, proxy=None, open_timeout=PATIENCE_S, **options)

    async def get(self, path: str, **headers: str) -> httpx.Response:
        """An HTTP answer."""
        async with httpx.AsyncClient(trust_env=False, timeout=PATIENCE_S) as client:
            return await client.get(self.url(path), headers=headers)


@asynccontextmanager
async def serving(
    config: Config = CONFIG,
    scheduler: FakeScheduler | None = None,
    microphone: Room | None = None,
    keys: Keys | None = None,
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[Daemon]:
    """A server on a free port."""
    daemon = Daemon(config, scheduler if scheduler is not None else FakeScheduler(), microphone, keys, tls)
    await daemon.http.start()
    try:
        yield daemon
    finally:
        await daemon.http.stop()


async def receive(client: ClientConnection) -> Message:
    """The next message of the server."""
    async with asyncio.timeout(PATIENCE_S):
        message: Message = json.loads(await client.recv())
        return message


async def receive_until(client: ClientConnection, type_: str) -> list[Message]:
    """Messages up to the first of a type."""
    messages = [await receive(client)]
    while messages[-1]["type"] != type_:
        messages.append(await receive(client))
    return messages


async def start(client: ClientConnection, **fields: Any) -> tuple[Message, Message]:
    """Start a session: `hello` and `started`."""
    await client.send(json.dumps({"type": "start", **fields}))
    hello, *_, started = await receive_until(client, "started")
    return hello, started


async def end(client: ClientConnection) -> list[Message]:
    """End a session: everything up to `bye`."""
    await client.send('{"type":"end"}')
    return await receive_until(client, "bye")


async def closing(client: ClientConnection) -> tuple[list[Message], int | None]:
    """Everything that still comes, and the close code."""
    messages = []
    try:
        while True:
            messages.append(await receive(client))
    except ConnectionClosed:
        return messages, client.close_code


async def within(wait: Awaitable[Any]) -> Any:
    """Wait, but not for ever."""
    async with asyncio.timeout(PATIENCE_S):
        return await wait
