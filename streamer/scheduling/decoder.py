"""
Where the steps of a worker are run: on a thread of this process, or in another process.

A decoder takes a batch of requests and returns an answer for each. Requests are complete in themselves, so a step that
is lost can be asked for again, here or elsewhere, and costs time only. Decoders are used on the event loop only.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import structlog

from streamer.errors import EngineError
from streamer.scheduling.calibration import Clocks, Timing, time_step
from streamer.scheduling.device_thread import DeviceThread
from streamer.scheduling.load import LoadMeter
from streamer.step import Engine, StepRequest, StepResult
from streamer.telemetry.statistics import EngineStatistics

log = structlog.get_logger()

Answer: TypeAlias = StepResult | EngineError
"""Of one request. An error belongs to its request alone."""


@dataclass(frozen=True, slots=True)
class Stepped:
    """The answers of a step, and what the step cost where it was run."""

    answers: Sequence[Answer]
    """In the order of the requests."""
    seconds: float
    """Time of the device for the whole step, without the wait for it."""
    n_rows: int
    """Rows of the whole step: more than the answers where steps of several callers were merged."""


class Decoder(Protocol):
    """Runs the steps of one worker."""

    @property
    def load(self) -> LoadMeter:
        """Cost of steps where they are run."""

    @property
    def thread(self) -> DeviceThread:
        """The thread on which the worker computes audio features."""

    @property
    def is_beside(self) -> bool:
        """Whether steps run beside that thread, so that audio is taken while a step is under way."""

    @property
    def has_place(self) -> bool:
        """Whether a step that is asked for now begins soon; what is not asked for yet can still grow."""

    @property
    def is_alive(self) -> bool:
        """Whether steps are answered, or will be by themselves: a restart of an engine counts as alive."""

    @property
    def is_ready(self) -> bool:
        """Whether a step that is asked for now is answered without a restart first."""

    @property
    def capacity(self) -> int:
        """Sessions that it carries at most; 0 while its own engine is lost."""

    @property
    def n_speaking_elsewhere(self) -> int:
        """Sessions of other processes that speak and whose steps the same engine runs."""

    def tell_speaking(self, n_speaking: int) -> None:
        """Tell those processes how many sessions of the worker speak now."""

    async def step(self, batch: Sequence[StepRequest]) -> Stepped:
        """
        Run one step.

        Raises:
            DeviceLostError: No step can be run any more, here or elsewhere.
        """
        ...

    async def time_step(self, batch: Sequence[StepRequest], clocks: Clocks) -> Timing:
        """
        Run a step of no session, and measure it where it is run.

        Args:
            batch: Its requests.
            clocks: What measures it; another process has the same clocks of its own.

        Raises:
            EngineError: The step failed.
            OverloadError: There is no time for it now.
            DeviceLostError: As `step`.
        """
        ...

    async def forget(self, sessions: Sequence[str]) -> None:
        """Release what is cached for sessions that are over."""

    def statistics(self) -> EngineStatistics:
        """The present state of the engine."""

    def close(self) -> None:
        """No step is asked for any more."""


class LocalDecoder:
    """
    An engine of this process, on a thread that computes audio features in turn with steps.

    Args:
        name: Of the engine, for metrics and `/statz`.
        engine: Used on the thread alone.
        meter: Learns the cost of steps; the decoders of a machine share it.
        thread: Of the engine's device.
    """

    def __init__(self, name: str, engine: Engine, meter: LoadMeter, thread: DeviceThread) -> None:
        self.load, self.thread = meter, thread
        self._name, self._engine = name, engine
        self._n_rows = 0

    @property
    def is_beside(self) -> bool:
        """Never: steps and audio features share the thread."""
        return False

    @property
    def has_place(self) -> bool:
        """Always: the worker waits for each step."""
        return True

    @property
    def is_alive(self) -> bool:
        """Whether the device answers."""
        return not self.thread.is_hanging

    @property
    def is_ready(self) -> bool:
        """Whether the device answers."""
        return self.is_alive

    @property
    def capacity(self) -> int:
        """As measured."""
        return self.load.capacity

    @property
    def n_speaking_elsewhere(self) -> int:
        """None: the engine is of this process alone."""
        return 0

    def tell_speaking(self, n_speaking: int) -> None:
        """Tell nobody."""

    async def step(self, batch: Sequence[StepRequest]) -> Stepped:
        """
        Run one step; if it fails, each request alone, so that a bad request affects no other.

        Raises:
            DeviceLostError: The device does not recover.
        """
        started = time.perf_counter()
        answers = await self.thread.run(lambda: _answers(self._engine, batch))
        self._n_rows += len(batch)
        return Stepped(answers, time.perf_counter() - started, len(batch))

    async def time_step(self, batch: Sequence[StepRequest], clocks: Clocks) -> Timing:
        """
        Run a step of no session on the thread, and measure it there.

        Args:
            batch: Its requests.
            clocks: What measures it.

        Raises:
            EngineError: The step failed.
            DeviceLostError: The device does not recover.
        """
        return await self.thread.run(lambda: time_step(self._engine, batch, clocks))

    async def forget(self, sessions: Sequence[str]) -> None:
        """Release what the engine has cached for sessions that are over."""
        await self.thread.run(lambda: self._forget(sessions))

    def _forget(self, sessions: Sequence[str]) -> None:
        for session in sessions:
            self._engine.forget(session)

    def statistics(self) -> EngineStatistics:
        """The engine of this process."""
        return EngineStatistics(
            name=self._name,
            pid=os.getpid(),
            n_rows=self._n_rows,
            row_cost_s=self.load.row_cost_s,
            is_alive=self.is_alive,
            n_restarts=0,
        )

    def close(self) -> None:
        """End the thread after its present call."""
        self.thread.close()


def _answers(engine: Engine, batch: Sequence[StepRequest]) -> Sequence[Answer]:
    try:
        return engine.step(batch)
    except EngineError as error:
        if len(batch) == 1:
            return [error]
        # a batch for which there is no memory fails although each of its rows works: nothing else would tell
        log.warning("batch_failed", rows=len(batch), error=str(error))
        return [answer for request in batch for answer in _answers(engine, [request])]
