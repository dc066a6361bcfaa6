"""
The parent of several gateways: holds the port, starts engines and gateways, and speaks to the service manager.

It serves nobody itself. Gateways accept connections from the same listening sockets, which are the parent's: a gateway
that dies takes no connection with it that it has not accepted.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import structlog
from prometheus_client import CollectorRegistry, ProcessCollector

from streamer.config import Config
from streamer.daemon.announcer import Announcer
from streamer.daemon.entrance import Entrance, open_entrance, open_wyoming
from streamer.daemon.lifecycle import background, run, stop_on_signals
from streamer.errors import ConfigError, StreamerError, reason_of
from streamer.gateway import programs, same_facts
from streamer.gateways import wire
from streamer.gateways.hub import Hub
from streamer.gateways.launch import GatewayProgram
from streamer.gateways.supervision import Gateways
from streamer.host.memory import give_back_forever
from streamer.host.sockets import UNIX, listen
from streamer.remote.joined import Address
from streamer.remote.launch import EngineProcess, Program
from streamer.remote.supervision import SupervisedPool, ready_all
from streamer.server.http_server import url_of
from streamer.telemetry.metrics import GatewayMetrics, ServiceMetrics

COMMAND = (sys.executable, "-m", "streamer.gateways.process")
"""Starts a gateway process."""
REPLACE = signal.SIGUSR1
"""Replaces all gateways, one after the other."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Commands:
    """What starts the processes."""

    gateway: Sequence[str] = COMMAND
    engine: Sequence[str] | None = None
    """None: the program of an engine."""


def serve(config: Config, *, with_microphone: bool = False, commands: Commands = Commands()) -> int:
    """
    Serve with several gateways until SIGTERM or SIGINT, in a terminal SIGHUP too, then drain.

    Args:
        config: With `server.processes` above 1.
        with_microphone: Not with several gateways.
        commands: What starts the processes.

    Returns:
        Exit code 0, after a clean stop.

    Raises:
        ConfigError: A microphone belongs to one process.
        StreamerError: The daemon cannot start or cannot go on.
    """
    if with_microphone:
        raise ConfigError(
            f"--mic: the microphone belongs to one process; server.processes = {config.server.processes}, expected 1"
        )
    return run(_serve(config, commands))


async def _serve(config: Config, commands: Commands) -> None:
    stop, announcer = stop_on_signals(), Announcer()
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    with contextlib.ExitStack() as held:
        entrance = held.enter_context(contextlib.closing(open_entrance(config.server)))
        if (wyoming := open_wyoming(config.wyoming)) is not None:
            held.enter_context(wyoming)
        announcer.loading(config.model.name)
        engines = _engine_programs(config, commands, held)
        processes = [EngineProcess(program) for program in engines]
        ready = await ready_all(processes)
        fingerprint = same_facts(ready).fingerprint
        pool = SupervisedPool(engines, processes, fingerprint, ServiceMetrics(registry).restarts.inc)
        begin = wire.Begin(
            version=wire.VERSION,
            config=config,
            index=0,
            ready=tuple(ready),
            engines=tuple(_address_of(program) for program in engines),
            sockets=tuple(listener.fileno() for listener in entrance.sockets),
            wyoming=wyoming.fileno() if wyoming else None,
        )
        hub, programs = Hub(config, registry), _gateway_programs(config, commands, begin)
        gateways = Gateways(programs, hub, GatewayMetrics(registry), config.server.drain_s)
        announcer.on_hangup(stop, entrance, gateways.reload)  # before anybody is answered
        async with background([pool.run(), give_back_forever()]):
            await gateways.start()
            await _run(config, entrance, gateways, stop, announcer)
    log.info("stopped")


def _engine_programs(config: Config, commands: Commands, held: contextlib.ExitStack) -> list[Program]:
    """The engine processes, each with a listening socket in a folder that nobody else may enter."""
    folder = held.enter_context(_socket_folder(os.environ))
    asked = programs(config) if commands.engine is None else programs(config, command=commands.engine)
    return [
        replace(program, listening=held.enter_context(listen(f"{UNIX}{folder / program.begin.name}", 0)))
        for program in asked
    ]


@contextlib.contextmanager
def _socket_folder(environment: Mapping[str, str]) -> Iterator[Path]:
    """A folder for the length of a block, in the first of those that the service manager has made, if it has."""
    beside = environment.get("RUNTIME_DIRECTORY", "").partition(":")[0] or None
    try:
        made = tempfile.TemporaryDirectory(prefix="streamer-", dir=beside)
    except OSError as error:
        place = "RUNTIME_DIRECTORY" if beside else "TMPDIR"
        where = beside or "any temporary folder"
        raise StreamerError(
            f"sockets of engines cannot be made in {where}: {reason_of(error)}; "
            f"set {place} to a folder that can be written to"
        ) from None
    with made as folder:
        yield Path(folder)


def _address_of(program: Program) -> Address:
    assert program.listening is not None
    return Address(name=program.begin.name, path=Path(program.listening.getsockname()))


def _gateway_programs(config: Config, commands: Commands, begin: wire.Begin) -> list[GatewayProgram]:
    return [
        GatewayProgram(command=commands.gateway, begin=msgspec.structs.replace(begin, index=index))
        for index in range(config.server.processes)
    ]


async def _run(
    config: Config, entrance: Entrance, gateways: Gateways, stop: asyncio.Event, announcer: Announcer
) -> None:
    """Serve until a signal, then wait until all gateways have drained."""
    url = url_of(config.server, entrance.sockets[0], is_tls=entrance.certificate.context is not None)
    async with asyncio.TaskGroup() as group:
        running = group.create_task(gateways.run())
        # one that hangs is replaced here
        feeding = group.create_task(announcer.feed_watchdog(lambda: gateways.is_alive))
        asyncio.get_running_loop().add_signal_handler(REPLACE, lambda: group.create_task(gateways.replace()))
        announcer.serving(config.model.name, url, config.server.processes)
        await stop.wait()
        announcer.stopping()
        gateways.stop()
        await running
        feeding.cancel()
