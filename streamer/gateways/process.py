"""
The program of a gateway process: serves its part of the connections of a port, with sessions and without weights.

    python -m streamer.gateways.process DESCRIPTOR

Its parent starts it with one end of a socket pair and the listening sockets. It ends when the parent does.
"""

from __future__ import annotations

import signal
import sys

if __name__ == "__main__":  # before the imports below, which take seconds
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)

import asyncio
import contextlib
import enum
import os
import socket
from collections.abc import Callable
from typing import TextIO

import structlog
from starlette.applications import Starlette

from streamer.access.keys import Keys, find_key_file
from streamer.access.tls import Certificate
from streamer.audio.opus import preload
from streamer.build.service import Service
from streamer.daemon.entrance import Entrance
from streamer.daemon.http import fitting, http_server
from streamer.daemon.lifecycle import background, drain, works_of
from streamer.errors import StreamerError
from streamer.gateway import build_member
from streamer.gateways import wire
from streamer.gateways.client import HubClient
from streamer.gateways.shared import SharedLimiter, SharedPlaces, SharedRooms, SharedSecrets, SharedState
from streamer.host.event_loop import fair_loop
from streamer.host.interpreter import share_interpreter
from streamer.host.memory import keep_for_good
from streamer.server.app import Shared, build_app
from streamer.server.connection import Connections
from streamer.server.relay.wyoming import wyoming_server
from streamer.server.state import LocalState
from streamer.telemetry import logs
from streamer.telemetry.families import families_of

ALIVE_S = 1.0
"""Between two signs of life, seconds."""
GRACE_S = 0.3
"""Time for the handshakes of connections that were accepted last, seconds."""
REST_S = 5.0
"""Time for the last words of sessions that did not end by themselves in `server.drain_s`, seconds."""
READY_S = 60.0
"""Longest wait for an engine before connections are accepted, seconds; without any they are refused one by one."""
ALL_READY_S = 2.0
"""Longest wait for the others after that, seconds: places of engines that are away are given to nobody."""

log = structlog.get_logger()


class Ending(enum.Enum):
    """Why a gateway ends."""

    ALONE = "alone"
    """By a signal of its own."""
    REPLACED = "replaced"
    """Another gateway has taken its place."""
    WITH_ALL = "with all"
    """The daemon stops. No gateway is left that accepts connections, so this one does, and says that it drains."""
    ORPHANED = "orphaned"
    """Its parent is gone, and with it the engines."""


class Gateway:
    """
    One gateway process.

    Args:
        hub: In the parent.
        begin: What to serve.
        service: Built of it.
    """

    def __init__(self, hub: HubClient, begin: wire.Begin, service: Service) -> None:
        self._hub, self._begin, self._config = hub, begin, begin.config
        self._service, self._scheduler, self._registry = service, service.scheduler, service.registry
        self._entrance = Entrance(
            sockets=[socket.socket(fileno=number) for number in begin.sockets],
            keys=Keys(find_key_file(self._config.server.keys_file, os.environ)),
            certificate=Certificate(self._config.server),
        )
        self._connections, self._rooms = Connections(), SharedRooms(hub)
        self._state = LocalState(service.scheduler, self._connections, service.registry)
        hub.handle = self._take
        loop = asyncio.get_running_loop()
        self._ending: asyncio.Future[Ending] = loop.create_future()
        loop.add_signal_handler(signal.SIGTERM, self._end, Ending.ALONE)

    async def run(self) -> None:
        """Serve until the hub says that it is over."""
        async with background([*works_of(self._service), self._listen_to_hub(), self._tell_alive()]):
            await self._serve()
        self._hub.tell(self._report(-1))

    async def _serve(self) -> None:
        await self._wait_ready()
        shares = fitting(self._config.limits)
        keep_for_good()
        wyoming = self._begin.wyoming
        server = http_server(self._app(), self._config, shares, self._entrance, self._registry)
        await server.start()
        try:
            listening = None if wyoming is None else socket.socket(fileno=wyoming)
            async with contextlib.AsyncExitStack() as accepting:
                await accepting.enter_async_context(wyoming_server(self._scheduler, self._config, listening))
                self._hub.tell(wire.Serving(version=wire.VERSION, pid=os.getpid()))
                log.info("gateway_serves", pid=os.getpid())
                ending = await self._ending
                if ending is not Ending.WITH_ALL:
                    server.stop_accepting()
                    await accepting.aclose()
                if ending is not Ending.ORPHANED:
                    await self._drain(is_replaced=ending is Ending.REPLACED)
        finally:
            await server.stop()

    async def _wait_ready(self) -> None:
        """Wait for an engine, so that the first clients are not refused, and shortly for all others."""
        await self._until(self._scheduler.is_ready, READY_S)
        await self._until(lambda: all(each.is_alive for each in self._scheduler.statistics().engines), ALL_READY_S)

    async def _until(self, is_so: Callable[[], bool], most_s: float) -> None:
        for _ in range(round(most_s / 0.05)):
            if is_so() or self._ending.done():
                return
            await asyncio.sleep(0.05)

    def _app(self) -> Starlette:
        shared = Shared(
            limiter=SharedLimiter(self._hub, self._config.limits),
            rooms=self._rooms,
            secrets=SharedSecrets(self._hub),
            state=SharedState(self._hub),
        )
        return build_app(
            self._scheduler,
            self._config,
            self._registry,
            keys=self._entrance.keys,
            connections=self._connections,
            shared=shared,
        )

    async def _drain(self, *, is_replaced: bool) -> None:
        """Let open sessions end; of a gateway that is replaced, those of clients that cannot resume may go on."""
        await asyncio.sleep(GRACE_S)
        drain_s = self._config.server.drain_s
        if is_replaced:
            await self._connections.announce_drain(drain_s)
            await self._scheduler.wait_empty(drain_s)
            await self._scheduler.drain(REST_S)
        else:
            await drain(drain_s, self._connections, self._scheduler)

    async def _listen_to_hub(self) -> None:
        await self._hub.run()
        if not self._ending.done():
            log.error("parent_is_gone")
        self._end(Ending.ORPHANED)

    def _end(self, why: Ending) -> None:
        """Begin to end; the first reason counts."""
        if not self._ending.done():
            self._ending.set_result(why)

    async def _tell_alive(self) -> None:
        while True:
            if self._scheduler.is_alive:
                self._hub.tell(wire.Alive())
            await asyncio.sleep(ALIVE_S)

    def _take(self, message: wire.FromHub) -> None:
        match message:
            case wire.Tell(id=number):
                self._hub.tell(self._report(number))
            case wire.GiveUp(session=session, token=token):
                self._scheduler.give_up(session, token)
            case wire.MakeRoom(id=number, caller=caller, is_greedy=is_greedy):
                is_done = self._scheduler.make_room(caller, is_greedy=is_greedy)
                self._hub.tell(wire.Done(id=number, is_done=is_done))
            case wire.RoomSays():
                self._rooms.take(message)
            case wire.Reload():
                self._entrance.reload()
            case wire.Stop(is_replaced=is_replaced):
                self._end(Ending.REPLACED if is_replaced else Ending.WITH_ALL)
            case _:
                log.warning("hub_message_unexpected", kind=type(message).__name__)

    def _report(self, number: int) -> wire.Report:
        return wire.Report(id=number, overview=self._state.now(), families=families_of(self._registry))


async def serve(connection: socket.socket, *, logs_to: TextIO | None = None) -> int:
    """
    Serve until the parent says that it is over, or is gone.

    Args:
        connection: To the parent.
        logs_to: Where the log goes; None: the log of this process stays as it is.

    Returns:
        Exit code: 0, or 1 if the gateway cannot start.

    Raises:
        HubWireError: The parent is of another version.
    """
    hub = HubClient(*await asyncio.open_connection(sock=connection))
    try:
        return await _serve(hub, logs_to)
    finally:
        await hub.close()


async def _serve(hub: HubClient, logs_to: TextIO | None) -> int:
    try:
        begin = await hub.receive()
    except (asyncio.IncompleteReadError, ConnectionError):
        return 1
    if not isinstance(begin, wire.Begin) or begin.version != wire.VERSION:
        raise wire.HubWireError(f"expected begin of version {wire.VERSION}")
    if logs_to:
        logs.configure(begin.config.log, logs_to, os.environ)
        structlog.contextvars.bind_contextvars(gateway=begin.index)
    try:
        gateway = Gateway(hub, begin, await asyncio.to_thread(_build, hub, begin))
    except StreamerError as error:
        hub.tell(wire.Failed(kind=type(error).__name__, message=str(error)))
        return 1
    await gateway.run()
    return 0


def _build(hub: HubClient, begin: wire.Begin) -> Service:
    service = build_member(begin.config, begin.ready, begin.engines, places=SharedPlaces(hub))
    preload()
    return service


if __name__ == "__main__":
    share_interpreter()
    with asyncio.Runner(loop_factory=fair_loop) as runner:
        code = runner.run(serve(socket.socket(fileno=int(sys.argv[1])), logs_to=sys.stderr))
    os._exit(code)  # a thread that hangs must not keep the process
