"""
The gateways of a daemon: each is kept alive, replaced when it is lost, and replaced when that is asked for.

A gateway that ends, hangs or cannot be started is started again after a pause, which grows with each failure in a row;
after the last one it is given up, and tried again every few minutes while others serve. When all are given up, `run`
raises.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence

import structlog

from streamer.errors import StreamerError
from streamer.gateways import wire
from streamer.gateways.hub import Hub
from streamer.gateways.launch import GatewayProcess, GatewayProgram
from streamer.remote.changes import Changes
from streamer.remote.supervision import HEALTHY_S, PAUSES_S, RETRY_S
from streamer.telemetry.metrics import GatewayMetrics

MARGIN_S = 15.0
"""Time beyond `server.drain_s` in which a gateway that was told to end must be gone, seconds."""

log = structlog.get_logger()


class SupervisedGateway:
    """
    One gateway, and its present process.

    Args:
        program: How to start a process.
        hub: Serves it.
        metrics: Count the starts.
        drain_s: Time that its sessions get to finish, seconds.
        on_given_up: Called when so many starts in a row have failed that the next one is far off.
    """

    def __init__(
        self,
        program: GatewayProgram,
        hub: Hub,
        metrics: GatewayMetrics,
        drain_s: float,
        on_given_up: Callable[[], None],
    ) -> None:
        self.name = str(program.begin.index)
        self.process: GatewayProcess | None = None
        """The present one; None while there is none."""
        self._program, self._hub, self._metrics, self._within_s = program, hub, metrics, drain_s + MARGIN_S
        self._on_given_up = on_given_up
        self._successor: GatewayProcess | None = None
        self._stopped, self._n_failures = asyncio.Event(), 0
        self._change = asyncio.Condition()

    @property
    def is_given_up(self) -> bool:
        """Whether it has no process, and so many starts in a row have failed that the next one is far off."""
        return self.process is None and self._n_failures >= len(PAUSES_S) and not self._stopped.is_set()

    async def start(self) -> None:
        """
        Start the first process, and wait until it serves.

        Raises:
            StreamerError: It cannot start, for the reason that it names.
        """
        self.process = await self._launch()

    async def run(self) -> None:
        """Keep it alive until cancelled or stopped."""
        try:
            while self.process or await self._start_again():
                assert self.process is not None
                started_s = asyncio.get_running_loop().time()
                await self._attend(self.process)
                if asyncio.get_running_loop().time() - started_s >= HEALTHY_S:
                    self._n_failures = 0
        finally:
            for process in filter(None, (self.process, self._successor)):
                await process.end()

    async def _attend(self, process: GatewayProcess) -> None:
        """Wait for the end of a process; then its successor is the present one, if there is one."""
        how = await process.ended()
        tell = log.info if process.is_stopped else log.error
        tell("gateway_ended", gateway=self.name, pid=process.pid, how=how)
        async with self._change:
            self.process, self._successor = self._successor, None
            self._change.notify_all()

    async def _start_again(self) -> bool:
        """Start another process, once one can be started; whether one serves."""
        while not await self._is_stopped_within(self._pause_s()):
            self._n_failures += 1
            try:
                self.process = await self._launch()
            except StreamerError as error:
                log.error("gateway_not_started", gateway=self.name, error=str(error))  # noqa: TRY400 - it says all
                continue
            self._metrics.restarts.inc()
            log.warning("gateway_restarted", gateway=self.name, pid=self.process.pid)
            if self._stopped.is_set():  # while it started
                self.process.stop(self._within_s, is_replaced=False)
            return True
        return False

    def _pause_s(self) -> float:
        """Time until the next start, seconds."""
        if self._n_failures < len(PAUSES_S):
            return PAUSES_S[self._n_failures]
        log.error("gateway_given_up", gateway=self.name, starts=self._n_failures, retry_s=RETRY_S)
        self._on_given_up()
        return RETRY_S

    async def _is_stopped_within(self, wait_s: float) -> bool:
        """Whether it is stopped already, or within some seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                await self._stopped.wait()
        return self._stopped.is_set()

    async def _launch(self) -> GatewayProcess:
        process = GatewayProcess(self._program, self._hub)
        try:
            await process.start()
        except BaseException:
            await process.end()
            raise
        return process

    async def replace(self) -> None:
        """Start another process, then let the present one drain and end; nothing if the other one cannot start."""
        if self._stopped.is_set():
            return
        old = self.process
        try:
            successor = await self._launch()
        except StreamerError as error:
            log.error("gateway_not_replaced", gateway=self.name, error=str(error))  # noqa: TRY400 - it says all
            return
        if old is None or old is not self.process or self._stopped.is_set():  # it was lost, or all end
            await successor.end()
            return
        self._successor = successor
        self._metrics.replaced.inc()
        old.stop(self._within_s, is_replaced=True)
        async with self._change:
            await self._change.wait_for(lambda: self.process is not old)

    def stop(self) -> None:
        """Let it drain and end; then `run` returns."""
        self._stopped.set()
        for process in filter(None, (self.process, self._successor)):
            process.stop(self._within_s, is_replaced=False)


class Gateways:
    """
    All gateways of a daemon.

    Args:
        programs: How each is started.
        hub: Serves them.
        metrics: Count the starts.
        drain_s: Time that sessions get to finish, seconds.
    """

    def __init__(self, programs: Sequence[GatewayProgram], hub: Hub, metrics: GatewayMetrics, drain_s: float) -> None:
        self._hub, self._changes = hub, Changes()
        self.each = [SupervisedGateway(program, hub, metrics, drain_s, self._changes.tell) for program in programs]
        metrics.configured.set(len(self.each))
        metrics.serving.set_function(lambda: sum(gateway.process is not None for gateway in self.each))
        self._replacing = asyncio.Lock()

    @property
    def is_alive(self) -> bool:
        """Whether any gateway serves, or will soon."""
        return not all(gateway.is_given_up for gateway in self.each)

    async def start(self) -> None:
        """
        Start all, and wait until they serve.

        Raises:
            StreamerError: One cannot start; all have ended then.
        """
        found = await asyncio.gather(*(gateway.start() for gateway in self.each), return_exceptions=True)
        failed = [error for error in found if isinstance(error, BaseException)]
        if failed:
            for gateway in self.each:
                if gateway.process:
                    await gateway.process.end()
            raise failed[0]

    async def run(self) -> None:
        """
        Keep all alive until they are stopped or this is cancelled.

        Raises:
            StreamerError: All were given up.
        """
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(gateway.run()) for gateway in self.each]
            for task in tasks:
                task.add_done_callback(lambda _: self._changes.tell())
            while self.is_alive and not all(task.done() for task in tasks):
                await self._changes.wait()
            for task in tasks:
                task.cancel()
        if not self.is_alive:
            raise StreamerError(f"none of {len(self.each)} gateway processes can be kept alive: the log says why")

    async def replace(self) -> None:
        """Replace all, one after the other; a second call waits for the first."""
        async with self._replacing:
            for gateway in self.each:
                await gateway.replace()
        log.info("gateways_replaced")

    def reload(self) -> None:
        """Let all read keys and certificate again, also those that start, and those that drain beside a successor."""
        for member in self._hub.members:
            member.send(wire.Reload())

    def stop(self) -> None:
        """Let all drain and end; then `run` returns."""
        for gateway in self.each:
            gateway.stop()
