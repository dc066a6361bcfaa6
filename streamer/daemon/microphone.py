"""Captions of this machine's microphone: in the terminal (`streamer mic`), or for viewers of a room (`serve --mic`)."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Protocol

import structlog

from streamer.audio.pcm import Samples
from streamer.build.service import Service
from streamer.config import CaptureConfig, Config
from streamer.daemon.lifecycle import run, stop_on_signals
from streamer.errors import CaptureError, EngineError, OverloadError
from streamer.gateway import build_service
from streamer.host.microphone import MicrophoneSource
from streamer.host.terminal import TerminalCaptions, TerminalNotes, has_person
from streamer.protocol.events import Event
from streamer.protocol.projection import for_viewers
from streamer.scheduling.scheduler import Scheduler, running
from streamer.scheduling.session_handle import SessionHandle

if TYPE_CHECKING:
    from streamer.server.rooms.room import Room

AWAY_S = 30.0
"""Between two attempts to caption a microphone that is not there, seconds."""

log = structlog.get_logger()


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


def caption_terminal(
    config: Config,
    *,
    keep: Callable[[Event], None] | None = None,
    build: Callable[[Config], Service] = build_service,
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
    return run(_caption_terminal(config, keep, build, open_microphone))


async def _caption_terminal(
    config: Config,
    keep: Callable[[Event], None] | None,
    build: Callable[[Config], Service],
    open_microphone: OpenMicrophone,
) -> None:
    stop = stop_on_signals()
    person = TerminalNotes(sys.stderr)
    person.say(f"Loading {config.model.name} …")
    service = await asyncio.to_thread(build, config)
    person.say("Listening · Ctrl-C stops")
    captions = TerminalCaptions(sys.stdout)
    async with running(service.scheduler):
        stream = service.scheduler.open(config.session)
        async with contextlib.aclosing(open_microphone(config.capture)) as source:
            feeding = asyncio.create_task(_feed(source, stream))
            stopping = asyncio.create_task(_cancel_at(stop, feeding))
            try:
                async for event in stream:
                    captions.show(event)
                    if keep:
                        keep(event)
            finally:
                stopping.cancel()
                await _stopped(feeding)


async def _feed(source: AudioSource, stream: SessionHandle) -> None:
    """Feed a microphone to a session. When the microphone is lost, the session ends and the error is raised."""
    try:
        async for samples in source:
            await stream.feed(samples)
    finally:
        stream.end()


async def _cancel_at(stop: asyncio.Event, feeding: asyncio.Task[None]) -> None:
    await stop.wait()
    feeding.cancel()


async def caption_room(scheduler: Scheduler, config: Config, open_microphone: OpenMicrophone, room: Room) -> None:
    """
    Publish what the microphone hears in a room, until the daemon drains; each time that it comes back a new session.

    The session that waits for it keeps its place. One that fails, or finds no place, ends nobody else's.

    Args:
        scheduler: Opens the sessions.
        config: `session` and `capture` are read.
        open_microphone: Opens the capture device.
        room: For its viewers.
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
            room.publish(for_viewers(event, config.session.task))
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


async def _stopped(task: asyncio.Task[None]) -> None:
    """Cancel a task and wait for its end; its own error is raised, its cancellation is not."""
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
