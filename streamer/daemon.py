"""The daemon: builds the parts, serves until a signal, drains, and tells the service manager the truth about it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import Coroutine
from typing import Any

import structlog

from streamer.access.keys import Keys, find_key_file
from streamer.access.security import check_exposure
from streamer.access.tls import Certificate
from streamer.build import Service, build
from streamer.config import Config
from streamer.errors import ConfigError, StreamerError
from streamer.host.memory import give_back_forever
from streamer.host.microphone import MicrophoneSource
from streamer.host.systemd import Notifier, inherited_sockets, watchdog_interval_s
from streamer.host.terminal import TerminalCaptions
from streamer.scheduling.scheduler import Scheduler, running
from streamer.scheduling.session_handle import SessionHandle
from streamer.server.app import build_app
from streamer.server.connection import Connections
from streamer.server.http_server import HttpServer
from streamer.server.relay.wyoming import wyoming_server
from streamer.server.rooms.room import Room

log = structlog.get_logger()


def serve(config: Config, microphone: str | None) -> int:
    """
    Run the server until SIGTERM or SIGINT; 0 after a clean stop.

    Args:
        config: Everything that can be set.
        microphone: Caption this input device as well ("" is the default one); None captions none.

    Raises:
        StreamerError: The daemon cannot start, or cannot go on.
    """
    return _run(_serve(config, microphone))


def microphone(config: Config) -> int:
    """
    Live captions of the microphone in the terminal until Ctrl-C; 0 after a clean stop.

    Raises:
        StreamerError: There is no model or no microphone.
    """
    return _run(_microphone(config))


def _run(main: Coroutine[Any, Any, None]) -> int:
    try:
        asyncio.run(main)
    except* StreamerError as group:
        raise _first(group) from None
    return 0


def _first(group: BaseExceptionGroup[StreamerError]) -> StreamerError:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, StreamerError)
    return error


async def _serve(config: Config, device: str | None) -> None:
    stop = _stop_on_signals()
    notifier = Notifier(os.environ.get("NOTIFY_SOCKET", ""))
    keys = Keys(find_key_file(config.server.keys_file, os.environ))
    certificate = Certificate(config.server)
    sockets = inherited_sockets(os.environ)
    check_exposure([_host(listener) for listener in sockets] or [config.server.host], config.server, keys)
    notifier.status("loading the model")
    notifier.extend_timeout(300)
    parts = await asyncio.to_thread(build, config)
    connections, broadcast = Connections(), Room() if device is not None else None
    app = build_app(parts.scheduler, config, parts.registry, keys=keys, connections=connections, microphone=broadcast)
    server = HttpServer(app, config, sockets, certificate.context)
    await server.start()
    _on_reload(notifier, keys, certificate)
    try:
        async with wyoming_server(parts.scheduler, config):
            await _serve_until(stop, parts, config, server, connections, broadcast, notifier)
    finally:
        await server.stop()
    log.info("stopped")


async def _serve_until(
    stop: asyncio.Event,
    parts: Service,
    config: Config,
    server: HttpServer,
    connections: Connections,
    broadcast: Room | None,
    notifier: Notifier,
) -> None:
    async with asyncio.TaskGroup() as group:
        working = [parts.scheduler.run(), _watchdog(parts.scheduler, notifier), give_back_forever()]
        if broadcast is not None:
            working.append(_caption_microphone(parts, config, broadcast))
        tasks = [group.create_task(work) for work in working]
        notifier.ready()
        notifier.status(f"serving {config.model.name} on port {server.port}")
        log.info("serving", url=server.url, model=config.model.name)
        await stop.wait()
        notifier.stopping()
        log.info("draining", deadline_s=config.server.drain_s)
        await connections.announce_drain(config.server.drain_s)
        await parts.scheduler.drain(config.server.drain_s)
        for task in tasks:
            task.cancel()


def _on_reload(notifier: Notifier, keys: Keys, certificate: Certificate) -> None:
    """On SIGHUP read API keys and certificate again; files that cannot be used change nothing."""

    def reload() -> None:
        notifier.reloading()
        try:
            certificate.reload()
            keys.reload()
            log.info("reloaded")
        except ConfigError as error:
            log.error("not_reloaded", error=str(error))  # noqa: TRY400 - the message says it; there is no bug to trace
        notifier.ready()

    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, reload)


def _host(listener: socket.socket) -> str:
    address = listener.getsockname()
    # of a Unix socket it is a path
    return str(address[0]) if isinstance(address, tuple) else f"/{address}"


async def _watchdog(scheduler: Scheduler, notifier: Notifier) -> None:
    """Feed the service manager's watchdog, from the loop that serves, while the device answers."""
    interval_s = watchdog_interval_s(os.environ)
    if interval_s is None:
        return
    while True:
        if scheduler.is_alive:
            notifier.alive()
        await asyncio.sleep(interval_s)


async def _caption_microphone(parts: Service, config: Config, broadcast: Room) -> None:
    stream = parts.scheduler.open(config.session)
    with contextlib.closing(MicrophoneSource(config.capture)) as source:
        feeding = asyncio.create_task(_feed(source, stream))
        try:
            with broadcast.speaking(stream.id):
                async for event in stream:
                    broadcast.publish(event)
        finally:
            await _stopped(feeding)


async def _microphone(config: Config) -> None:
    stop = _stop_on_signals()
    parts = await asyncio.to_thread(build, config)
    captions = TerminalCaptions(sys.stdout)
    async with running(parts.scheduler):
        stream = parts.scheduler.open(config.session)
        with contextlib.closing(MicrophoneSource(config.capture)) as source:
            feeding = asyncio.create_task(_feed(source, stream))
            stopping = asyncio.create_task(_end_when(stop, stream, feeding))
            try:
                async for event in stream:
                    captions.show(event)
            finally:
                stopping.cancel()
                await _stopped(feeding)


async def _feed(source: MicrophoneSource, stream: SessionHandle) -> None:
    """Microphone into session; when the microphone is lost for good, the session ends and the error is raised."""
    try:
        async for samples in source:
            await stream.feed(samples)
    finally:
        stream.end()


async def _end_when(stop: asyncio.Event, stream: SessionHandle, feeding: asyncio.Task[None]) -> None:
    await stop.wait()
    feeding.cancel()
    stream.end()


async def _stopped(task: asyncio.Task[None]) -> None:
    """Cancel a task and wait; its own error is raised, its cancellation is not."""
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


def _stop_on_signals() -> asyncio.Event:
    """An event that SIGTERM and SIGINT set; a second signal ends the process at once."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def on_signal(number: signal.Signals) -> None:
        stop.set()
        loop.remove_signal_handler(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal, number)
    return stop
