"""A hub with its gateways, in memory but for the sockets between them."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator

from prometheus_client import CollectorRegistry

from streamer.config import Config, LimitsConfig, ServerConfig
from streamer.gateways import wire
from streamer.gateways.client import HubClient
from streamer.gateways.hub import Hub
from streamer.gateways.member import Member

NO_LIMITS = LimitsConfig()
"""The defaults: no test comes near them."""


def hub(limits: LimitsConfig = NO_LIMITS, registry: CollectorRegistry | None = None) -> Hub:
    """With rooms."""
    config = Config(server=ServerConfig(rooms=True, processes=2), limits=limits)
    return Hub(config, registry or CollectorRegistry())


@contextlib.asynccontextmanager
async def gateway(hub: Hub, name: str = "0", *, serves: bool = True) -> AsyncIterator[HubClient]:
    """The connection of a gateway, which is lost at the end of the block; one that does not serve still starts."""
    ours, theirs = socket.socketpair()
    reader, writer = await asyncio.open_connection(sock=ours)
    member = Member(name, writer)
    if serves:
        member.begun(wire.Serving(version=wire.VERSION, pid=0))
    serving = asyncio.create_task(hub.serve(member, reader))
    client = HubClient(*await asyncio.open_connection(sock=theirs))
    running = asyncio.create_task(client.run())
    try:
        yield client
    finally:
        await client.close()
        await asyncio.gather(serving, running)
        writer.close()
