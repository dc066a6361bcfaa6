"""
The engine processes of a gateway: each is kept alive, and started again when it is lost.

A process that ends, hangs or cannot be started is replaced after a pause, which grows with each failure in a row; after
the last one it is given up, and tried again every few minutes while others serve. When all are given up, `run` raises:
a new daemon may find a device that works.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import msgspec
import structlog

from streamer.errors import DeviceLostError, EngineError, StreamerError
from streamer.remote import wire
from streamer.remote.changes import Changes
from streamer.remote.launch import EngineProcess, Program
from streamer.remote.link import EngineLink, run_link

PAUSES_S = (0.0, 1.0, 2.0, 5.0, 10.0, 30.0)
"""Pause before each start in a row, seconds; after so many failures the engine is given up."""
RETRY_S = 300.0
"""Pause before each start of an engine that was given up, seconds."""
HEALTHY_S = 60.0
"""A process that has served for so long, seconds, is no failure in a row when it is lost."""

log = structlog.get_logger()


class SupervisedEngine:
    """
    One engine, and its present process.

    Args:
        program: How to start a process.
        process: The first one, ready.
        fingerprint: Of the weights that it must have.
        on_change: Called when it begins or stops to answer, or is given up.
        on_rebuilt: As that of `EngineLink`.
    """

    is_wanted = True
    """Always: there are as many engines as are configured."""

    def __init__(
        self,
        program: Program,
        process: EngineProcess,
        fingerprint: str,
        on_change: Callable[[], None],
        on_rebuilt: Callable[[int], None],
    ) -> None:
        self.name = program.begin.name
        self.link: EngineLink | None = None
        self.n_restarts = 0
        begin = msgspec.structs.replace(program.begin, measures=False)
        self._program, self._fingerprint = replace(program, begin=begin), fingerprint
        self._process: EngineProcess | None = process
        self._on_change, self._on_rebuilt = on_change, on_rebuilt
        self._n_failures = 0

    @property
    def is_lost(self) -> bool:
        """Whether it does not answer, or its process is being replaced."""
        return self._process is None or (self.link is not None and not self.link.is_answering)

    @property
    def is_given_up(self) -> bool:
        """Whether it has no process, and so many starts in a row have failed that the next one is far off."""
        return self._process is None and self._n_failures >= len(PAUSES_S)

    @property
    def pid(self) -> int:
        """Of the process; 0 while there is none."""
        return self._process.pid if self._process else 0

    async def run(self) -> None:
        """Keep it alive until cancelled."""
        try:
            while True:
                process = self._process or await self._started()
                started_s = time.monotonic()
                await self._serve(process)
                pid, how = self.pid, await self.end()
                log.error("engine_ended", engine=self.name, pid=pid, how=how)
                if time.monotonic() - started_s >= HEALTHY_S:
                    self._n_failures = 0
        finally:
            await self.end()

    async def _serve(self, process: EngineProcess) -> None:
        """Use a process until it is lost or hangs."""
        reader, writer = await asyncio.open_connection(sock=process.connection)
        self.link = EngineLink(self.name, writer.write)
        self.link.on_change, self.link.on_rebuilt = self._on_change, self._on_rebuilt
        self._on_change()
        try:
            await run_link(self.link, reader)
        except wire.WireError as error:
            log.error("engine_message_unreadable", engine=self.name, error=str(error))  # noqa: TRY400 - it says all
        finally:
            self.link = None
            writer.transport.abort()

    async def end(self) -> str:
        """End its process, if it has one; how it ended, in words."""
        if self._process is None:
            return "not there"
        process, self._process = self._process, None
        self._on_change()
        return await process.end()

    async def _started(self) -> EngineProcess:
        """Another process, once one is ready; after each failure the pause is longer."""
        while True:
            await asyncio.sleep(self._pause_s())
            self._n_failures += 1
            try:
                self._process = await self._try()
            except StreamerError as error:
                log.error("engine_not_started", engine=self.name, error=str(error))  # noqa: TRY400 - it says all
                self._on_change()
                continue
            self.n_restarts += 1
            log.warning("engine_restarted", engine=self.name, pid=self.pid, restarts=self.n_restarts)
            return self._process

    def _pause_s(self) -> float:
        """Time until the next start, seconds."""
        if not self.is_given_up:
            return PAUSES_S[self._n_failures]
        log.error("engine_given_up", engine=self.name, starts=self._n_failures, retry_s=RETRY_S)
        return RETRY_S

    async def _try(self) -> EngineProcess:
        process = EngineProcess(self._program)
        try:
            ready = await process.ready()
            if ready.facts.fingerprint != self._fingerprint:
                raise EngineError(
                    "its weights are others than those of the sessions: restart the daemon to change them"
                )
        except BaseException:
            await process.end()
            raise
        return process


class SupervisedPool:
    """
    All engines of a gateway, each in a process of its own.

    Args:
        programs: How each is started; the first starts measure, later ones need not.
        processes: The first processes, ready.
        fingerprint: Of the weights that all must have.
        on_rebuilt: Called with a number of engines that were built again inside their process.
    """

    def __init__(
        self,
        programs: Sequence[Program],
        processes: Sequence[EngineProcess],
        fingerprint: str,
        on_rebuilt: Callable[[int], None],
    ) -> None:
        self._changes = Changes()
        self.places = [
            SupervisedEngine(program, process, fingerprint, self._changes.tell, on_rebuilt)
            for program, process in zip(programs, processes, strict=True)
        ]

    @property
    def has_given_up(self) -> bool:
        """Whether no engine has a process, nor will have one soon."""
        return all(place.is_given_up for place in self.places)

    async def changed(self) -> None:
        """Wait until an engine begins or stops to answer, or is given up."""
        await self._changes.wait()

    async def run(self) -> None:
        """
        Keep all engines alive until cancelled.

        Raises:
            DeviceLostError: All were given up.
        """
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(place.run()) for place in self.places]
            while not self.has_given_up:
                await self.changed()
            for task in tasks:
                task.cancel()
        raise DeviceLostError(f"none of {len(self.places)} engine processes can be kept alive: the log says why")


async def ready_all(processes: Sequence[EngineProcess]) -> list[wire.Ready]:
    """
    Wait until all processes are ready; ends all of them where one cannot start.

    Raises:
        StreamerError: One cannot start.
    """
    found = await asyncio.gather(*(process.ready() for process in processes), return_exceptions=True)
    ready = [each for each in found if not isinstance(each, BaseException)]
    if failed := [each for each in found if isinstance(each, BaseException)]:
        for process in processes:
            await process.end()
        raise failed[0]
    return ready
