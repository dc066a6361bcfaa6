"""`streamer serve`: builds the service, serves until a signal, then drains."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from contextlib import ExitStack, closing

import msgspec
import structlog

from streamer.audio.opus import preload
from streamer.build.service import Service
from streamer.config import Config
from streamer.daemon.announcer import Announcer
from streamer.daemon.entrance import Entrance, open_entrance, open_wyoming
from streamer.daemon.lifecycle import background, drain, run, stop_on_signals, works_of
from streamer.daemon.microphone import OpenMicrophone, caption_room
from streamer.gateway import build_service
from streamer.host.memory import keep_for_good
from streamer.host.microphone import MicrophoneSource
from streamer.telemetry.metrics import MicrophoneMetrics

Build = Callable[[Config], Service]

log = structlog.get_logger()


def serve(
    config: Config,
    *,
    with_microphone: bool = False,
    build: Build = build_service,
    open_microphone: OpenMicrophone = MicrophoneSource,
) -> int:
    """
    Serve over HTTP and WebSocket until SIGTERM or SIGINT, in a terminal SIGHUP too, then drain.

    Args:
        config: The configuration.
        with_microphone: Caption the device of `config.capture` too, for the viewers of this daemon.
        build: Builds the service, on a thread of its own.
        open_microphone: Opens the capture device.

    Returns:
        Exit code 0, after a clean stop.

    Raises:
        StreamerError: The daemon cannot start or cannot go on: no model, port in use; no microphone at the start, where
            a person looks on.
    """
    return run(_serve(config, build, open_microphone if with_microphone else None))


async def _serve(config: Config, build: Build, open_microphone: OpenMicrophone | None) -> None:
    stop, announcer = stop_on_signals(), Announcer()
    with ExitStack() as held:
        entrance = held.enter_context(closing(open_entrance(config.server)))
        if (wyoming := open_wyoming(config.wyoming)) is not None:
            held.enter_context(wyoming)
        announcer.loading(config.model.name)
        importing = asyncio.to_thread(_import_server)
        service, _ = await asyncio.gather(asyncio.to_thread(build, config), importing)
        keep_for_good()
        await _serve_at(entrance, wyoming, service, config, open_microphone, stop, announcer)


def _import_server() -> None:
    """Import what answers clients, while the weights are packed, which needs no interpreter; `mic` does not need it."""
    from streamer.daemon import http  # noqa: F401
    from streamer.server import app  # noqa: F401
    from streamer.server.relay import wyoming  # noqa: F401

    preload()


async def _serve_at(
    entrance: Entrance,
    wyoming: socket.socket | None,
    service: Service,
    config: Config,
    open_microphone: OpenMicrophone | None,
    stop: asyncio.Event,
    announcer: Announcer,
) -> None:
    from streamer.daemon.http import fitting, http_server
    from streamer.server.app import build_app
    from streamer.server.connection import Connections
    from streamer.server.relay.wyoming import wyoming_server
    from streamer.server.rooms.room import Room

    scheduler, connections, room = service.scheduler, Connections(), Room() if open_microphone else None
    shares = fitting(config.limits)
    config = msgspec.structs.replace(config, limits=shares.limits)
    app = build_app(scheduler, config, service.registry, keys=entrance.keys, connections=connections, microphone=room)
    server = http_server(app, config, shares, entrance, service.registry)
    await server.start()
    announcer.on_hangup(stop, entrance)
    try:
        async with wyoming_server(scheduler, config, wyoming):
            works = [*works_of(service), announcer.feed_watchdog(lambda: scheduler.is_alive)]
            if room and open_microphone:
                MicrophoneMetrics(service.registry).alive.set_function(lambda: room.is_live)
                works.append(caption_room(scheduler, config, open_microphone, room))
            async with background(works):
                announcer.serving(config.model.name, server.url)
                await stop.wait()
                announcer.stopping()
                await drain(config.server.drain_s, connections, scheduler)
    finally:
        await server.stop()
    log.info("stopped")
