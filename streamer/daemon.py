"""The daemon: builds the service, serves until a signal, drains, and reports its state to the service manager."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import msgspec
import structlog
from prometheus_client import CollectorRegistry

from streamer.access.exposure import check_exposure
from streamer.access.keys import Keys, find_key_file
from streamer.access.open_files import Shares, needed_files, shared_out
from streamer.access.tls import Certificate
from streamer.audio.opus import preload
from streamer.audio.pcm import Samples
from streamer.build.service import Service
from streamer.config import CaptureConfig, Config, LimitsConfig, ServerConfig
from streamer.errors import CaptureError, ConfigError, EngineError, OverloadError, StreamerError
from streamer.gateway import build_service
from streamer.host.event_loop import fair_loop
from streamer.host.interpreter import share_interpreter
from streamer.host.memory import collect_forever, give_back_forever, keep_for_good
from streamer.host.microphone import MicrophoneSource
from streamer.host.open_files import allow_all_files
from streamer.host.sockets import listen
from streamer.host.systemd import Notifier, inherited_sockets, watchdog_interval_s
from streamer.host.terminal import TerminalCaptions, TerminalNotes, has_person
from streamer.protocol.events import Event
from streamer.scheduling.scheduler import Scheduler, running
from streamer.scheduling.session_handle import SessionHandle
from streamer.telemetry.loop_watch import LoopWatch
from streamer.telemetry.metrics import CertificateMetrics, LoopMetrics, MicrophoneMetrics

if TYPE_CHECKING:
    from streamer.server.connection import Connections
    from streamer.server.rooms.room import Room

log = structlog.get_logger()

LOADING_S = 300.0
"""How long loading the model may take before the service manager gives up."""
AWAY_S = 30.0
"""Between two attempts to caption a microphone that is not there, seconds."""


class AudioSource(Protocol):
    """A microphone that is being captured."""

    def __aiter__(self) -> AsyncIterator[Samples]:
        """
        Blocks of samples, (n,), mono at 16 kHz.

        Raises:
            CaptureError: The device cannot be opened, or is lost for good.
        """
        ...

    async def aclose(self) -> None:
        """Release the device."""


OpenMicrophone = Callable[[CaptureConfig], AudioSource]
Build = Callable[[Config], Service]


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


def microphone(
    config: Config,
    *,
    keep: Callable[[Event], None] | None = None,
    build: Build = build_service,
    open_microphone: OpenMicrophone = MicrophoneSource,
) -> int:
    """
    Show live captions of the microphone in the terminal until SIGINT or SIGTERM.

    Args:
        config: The configuration.
        keep: Takes each event of the session; may raise a StreamerError.
        build: Builds the service, on a thread of its own.
        open_microphone: Opens the capture device.

    Returns:
        Exit code 0, after a clean stop.

    Raises:
        StreamerError: There is no model or no microphone, or the microphone is lost.
    """
    return run(_microphone(config, keep, build, open_microphone))


def run(main: Coroutine[Any, Any, None]) -> int:
    """
    Run a daemon to its end, and return exit code 0.

    Raises:
        StreamerError: The first of those that ended it.
    """
    share_interpreter()
    try:
        with asyncio.Runner(loop_factory=fair_loop) as runner:
            runner.run(main)
    except* StreamerError as group:
        raise _first(group) from None
    return 0


def _first(group: BaseExceptionGroup[StreamerError]) -> StreamerError:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, StreamerError)
    return error


@dataclass(frozen=True, slots=True, kw_only=True)
class Entrance:
    """Where clients come in, open before the model is loaded."""

    sockets: Sequence[socket.socket]
    """They listen already: a port in use is found at once, and clients that come early wait."""
    keys: Keys
    certificate: Certificate


async def _serve(config: Config, build: Build, open_microphone: OpenMicrophone | None) -> None:
    stop = stop_on_signals()
    notifier, person = Notifier(os.environ.get("NOTIFY_SOCKET", "")), TerminalNotes(sys.stderr)
    entrance = open_entrance(config.server)
    try:
        notifier.status("loading the model")
        notifier.extend_timeout(LOADING_S)
        person.say(f"Loading {config.model.name} and measuring what this machine can carry …")
        importing = asyncio.to_thread(_import_server)
        service, _ = await asyncio.gather(asyncio.to_thread(build, config), importing)
        keep_for_good()
        await _serve_at(entrance, service, config, open_microphone, stop, notifier, person)
    finally:
        for listener in entrance.sockets:
            listener.close()


def _import_server() -> None:
    """Import what answers clients, while the weights are packed, which needs no interpreter; `mic` does not need it."""
    from streamer.server import app, http_server  # noqa: F401
    from streamer.server.relay import wyoming  # noqa: F401

    preload()


def open_entrance(config: ServerConfig) -> Entrance:
    """
    Listen, and read keys and certificate.

    Raises:
        StreamerError: The port is taken, a file cannot be used, or it would serve a network without keys.
    """
    keys = Keys(find_key_file(config.keys_file, os.environ))
    certificate = Certificate(config)
    inherited = inherited_sockets(os.environ)
    check_exposure([_host(listener) for listener in inherited] or [config.host], config, keys)
    return Entrance(
        sockets=inherited or [listen(config.host, config.port, "--port")], keys=keys, certificate=certificate
    )


def publish_expiry(certificate: Certificate, registry: CollectorRegistry) -> None:
    """Publish when the certificate expires, where there is one."""
    if certificate.context is not None:
        CertificateMetrics(registry, lambda: certificate.expires_at)


def fitting(limits: LimitsConfig) -> Shares:
    """What fits into the open files that the system allows this process; the log says if it is less than configured."""
    n_files = allow_all_files()
    shares = shared_out(limits, n_files)
    if shares.limits != limits:
        log.warning(
            "few_open_files",
            allowed=n_files,
            needed=needed_files(limits),
            max_connections=shares.limits.max_connections,
            max_viewers=shares.limits.max_viewers,
            remedy="ulimit -n 65536 (LimitNOFILE= of a unit), or smaller limits.max_connections and limits.max_viewers",
        )
    return shares


async def _serve_at(
    entrance: Entrance,
    service: Service,
    config: Config,
    open_microphone: OpenMicrophone | None,
    stop: asyncio.Event,
    notifier: Notifier,
    person: TerminalNotes,
) -> None:
    from streamer.access.early_keys import shows_key
    from streamer.server.app import build_app
    from streamer.server.connection import Connections
    from streamer.server.http_server import HttpServer
    from streamer.server.relay.wyoming import wyoming_server
    from streamer.server.rooms.room import Room

    keys, certificate = entrance.keys, entrance.certificate
    scheduler, connections, room = service.scheduler, Connections(), Room() if open_microphone else None
    shares = fitting(config.limits)
    config = msgspec.structs.replace(config, limits=shares.limits)
    app = build_app(scheduler, config, service.registry, keys=keys, connections=connections, microphone=room)
    server = HttpServer(
        app,
        config,
        entrance.sockets,
        certificate.context,
        service.registry,
        max_waiting=shares.max_waiting,
        knows=functools.partial(shows_key, keys=keys),
    )
    await server.start()
    publish_expiry(certificate, service.registry)
    on_hangup(stop, notifier, entrance, lambda: log.info("reloaded"))
    try:
        async with wyoming_server(scheduler, config):
            watch = LoopWatch(LoopMetrics(service.registry))
            works = [
                scheduler.run(),
                _feed_watchdog(scheduler, notifier),
                give_back_forever(),
                collect_forever(),
                watch.run(),
            ]
            if room and open_microphone:
                MicrophoneMetrics(service.registry).alive.set_function(lambda: room.is_live)
                works.append(_caption_microphone(scheduler, config, open_microphone, room))
            async with background(works):
                notifier.ready()
                notifier.status(f"serving {config.model.name} at {server.url}")
                log.info("serving", url=server.url, model=config.model.name)
                person.say(f"Captions at {for_browsers(server.url, socket.gethostname())} · Ctrl-C stops")
                await stop.wait()
                person.say("Stopping: open sessions get their last words · Ctrl-C again ends at once")
                notifier.stopping()
                await drain(config.server.drain_s, connections, scheduler)
    finally:
        await server.stop()
    log.info("stopped")


def for_browsers(url: str, hostname: str) -> str:
    """An address that a browser can open: every network of the machine is `0.0.0.0` or `[::]`, which none can."""
    for everywhere in ("//0.0.0.0:", "//[::]:"):
        if everywhere in url:
            return f"{url.replace(everywhere, '//127.0.0.1:')} and {url.replace(everywhere, f'//{hostname}:')}"
    return url


@contextlib.asynccontextmanager
async def background(works: Sequence[Coroutine[Any, Any, None]]) -> AsyncIterator[None]:
    """Run coroutines for the length of a block; a failure of one ends the block and is raised."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(work) for work in works]
        yield
        for task in tasks:
            task.cancel()


async def drain(deadline_s: float, connections: Connections, scheduler: Scheduler) -> None:
    """
    Let all sessions end.

    Args:
        deadline_s: Time that they get, seconds.
        connections: They are told.
        scheduler: Of the sessions.
    """
    log.info("draining", deadline_s=deadline_s)
    await connections.announce_drain(deadline_s)
    await scheduler.drain(deadline_s)


def on_hangup(stop: asyncio.Event, notifier: Notifier, entrance: Entrance, reloaded: Callable[[], None]) -> None:
    """
    On SIGHUP end a daemon that a person typed, whose window was closed; any other one reads its files again.

    Args:
        stop: Set to end it.
        notifier: Is told of the reload.
        entrance: API keys and certificate; a file that cannot be used changes nothing.
        reloaded: Called when both were read.
    """

    def reload() -> None:
        notifier.reloading()
        try:
            entrance.certificate.reload()
            entrance.keys.reload()
        except ConfigError as error:
            log.error("not_reloaded", error=str(error))  # noqa: TRY400 - a mistake in a file: a traceback says nothing more
        else:
            reloaded()
        notifier.ready()

    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, stop.set if has_person() else reload)


def _host(listener: socket.socket) -> str:
    address = listener.getsockname()
    # the address of a Unix socket is a path
    return str(address[0]) if isinstance(address, tuple) else f"/{address}"


async def _feed_watchdog(scheduler: Scheduler, notifier: Notifier) -> None:
    """Feed the watchdog of the service manager from the event loop that serves, while the device answers."""
    interval_s = watchdog_interval_s(os.environ)
    if interval_s is None:
        return
    while True:
        if scheduler.is_alive:
            notifier.alive()
        await asyncio.sleep(interval_s)


async def _caption_microphone(
    scheduler: Scheduler, config: Config, open_microphone: OpenMicrophone, room: Room
) -> None:
    """
    Publish what the microphone hears in a room, until the daemon drains; each time that it comes back a new session.

    The session that waits for it keeps its place. One that fails, or finds no place, ends nobody else's.
    """
    has_more = True
    while has_more:
        try:
            has_more = await _caption_session(scheduler, config, open_microphone, room)
        except (EngineError, OverloadError) as error:
            log.error("microphone_not_captioned", error=str(error), retry_s=AWAY_S)  # noqa: TRY400 - it says all
            await asyncio.sleep(AWAY_S)


async def _caption_session(scheduler: Scheduler, config: Config, open_microphone: OpenMicrophone, room: Room) -> bool:
    """Publish one session of the microphone; whether it ended since the microphone was lost, not by a drain."""
    stream = scheduler.open(config.session)
    stream.has_sound = True  # muted or away, the microphone gives its place to nobody
    feeding = asyncio.create_task(_feed_room(stream, config, open_microphone, room))
    try:
        async for event in stream:
            room.publish(event)
        return feeding.done()
    finally:
        stream.end()
        await _stopped(feeding)


async def _feed_room(stream: SessionHandle, config: Config, open_microphone: OpenMicrophone, room: Room) -> None:
    """
    Wait for the microphone and feed it to a session, which ends when it is lost.

    Raises:
        CaptureError: It is not there at the start, and a person looks on: it is probably named wrongly.
    """
    pause_s = 0.0
    try:
        while not stream.received_s:
            await asyncio.sleep(pause_s)
            pause_s = AWAY_S
            try:
                await _speak(open_microphone(config.capture), stream, room)
            except CaptureError as error:
                if has_person() and not room.session:
                    raise
                log.error("microphone_lost", error=str(error))  # noqa: TRY400 - it says all
    finally:
        stream.end()


async def _speak(source: AudioSource, stream: SessionHandle, room: Room) -> None:
    """Feed a microphone to a session, which speaks in the room from the first sound on; closes the microphone."""
    async with contextlib.aclosing(source):
        with contextlib.ExitStack() as speaking:
            async for samples in source:
                if not room.is_live:
                    speaking.enter_context(room.speaking(stream.id))
                await stream.feed(samples)


async def _microphone(
    config: Config, keep: Callable[[Event], None] | None, build: Build, open_microphone: OpenMicrophone
) -> None:
    stop = stop_on_signals()
    person = TerminalNotes(sys.stderr)
    person.say(f"Loading {config.model.name} …")
    service = await asyncio.to_thread(build, config)
    person.say("Listening · Ctrl-C stops")
    captions = TerminalCaptions(sys.stdout)
    async with running(service.scheduler):
        stream = service.scheduler.open(config.session)
        async with _fed(stream, open_microphone(config.capture)) as feeding:
            stopping = asyncio.create_task(_end_when(stop, stream, feeding))
            try:
                async for event in stream:
                    captions.show(event)
                    if keep:
                        keep(event)
            finally:
                stopping.cancel()


@contextlib.asynccontextmanager
async def _fed(stream: SessionHandle, source: AudioSource) -> AsyncIterator[asyncio.Task[None]]:
    """Feed a microphone to a session for the length of a block; yields the task that does. Closes the microphone."""
    async with contextlib.aclosing(source):
        feeding = asyncio.create_task(_feed(source, stream))
        try:
            yield feeding
        finally:
            await _stopped(feeding)


async def _feed(source: AudioSource, stream: SessionHandle) -> None:
    """Feed a microphone to a session. When the microphone is lost, the session ends and the error is raised."""
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
    """Cancel a task and wait for its end; its own error is raised, its cancellation is not."""
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


def stop_on_signals() -> asyncio.Event:
    """
    An event that SIGTERM and SIGINT set; a second signal ends the process at once.

    SIGUSR1 ends nothing: it replaces gateways, where there are several and they serve (`gateways.parent`).
    """
    if signal.getsignal(signal.SIGUSR1) == signal.SIG_DFL:
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def on_signal(number: signal.Signals) -> None:
        stop.set()
        loop.remove_signal_handler(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal, number)
    return stop
