"""The life of a program that serves: its signals, what runs in the background, the drain, and its errors."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Coroutine, Sequence
from typing import TYPE_CHECKING, Any

import structlog

from streamer.build.service import Service
from streamer.errors import StreamerError
from streamer.host.event_loop import fair_loop
from streamer.host.interpreter import share_interpreter
from streamer.host.memory import collect_forever, give_back_forever
from streamer.scheduling.scheduler import Scheduler
from streamer.telemetry.loop_watch import LoopWatch
from streamer.telemetry.metrics import LoopMetrics

if TYPE_CHECKING:
    from streamer.server.connection import Connections

Work = Coroutine[Any, Any, None]

log = structlog.get_logger()


def run(main: Work) -> int:
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


def works_of(service: Service) -> list[Work]:
    """What every process runs that serves clients: sessions, the care for its memory, the watch over its event loop."""
    watch = LoopWatch(LoopMetrics(service.registry))
    return [service.scheduler.run(), give_back_forever(), collect_forever(), watch.run()]


@contextlib.asynccontextmanager
async def background(works: Sequence[Work]) -> AsyncIterator[None]:
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
