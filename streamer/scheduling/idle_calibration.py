"""Measures the cost of a step again while nobody speaks, so that the places follow the machine's other work."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

import structlog

from streamer.errors import EngineError, OverloadError
from streamer.scheduling.calibration import Clocks, CostProbe, Timing
from streamer.scheduling.cost_memory import CostMemory
from streamer.scheduling.load import LoadMeter
from streamer.step import StepRequest

TICK_S = 15.0
"""Between two looks at whether to measure, seconds."""
MOST_SHARE = 0.05
"""Part of the time of one device that measurements take at most. A measurement of 1.5 s, as long as those of small
models beside other work, is repeated within half a minute."""
N_FIRST = 8
"""Measurements after the start, one at each tick, whatever they find: the first ones may have met other work."""
DEAR = 1.1
"""Multiple of the idle machine's cost above which the machine is measured at each tick."""
RARE_S = 300.0
"""Between two measurements of a machine that is as fast as it was ever measured, seconds."""
MAX_FAILURES = 3
"""Measurements in a row that fail before the next ones come every `RARE_S` alone."""

log = structlog.get_logger()


class MeasurableWorker(Protocol):
    """What a measurement needs of a worker."""

    @property
    def is_idle(self) -> bool:
        """Whether no session of the worker speaks or has audio that waits."""

    async def time_step(self, batch: Sequence[StepRequest], clocks: Clocks) -> Timing:
        """
        Run a step on the device thread, in turn with those of sessions.

        Raises:
            EngineError: The step failed.
            OverloadError: There is no time for it now.
        """
        ...

    async def forget(self, sessions: Sequence[str]) -> None:
        """Release what the engine has cached for these sessions."""


class IdleCalibration:
    """
    Measures on the first worker while all workers are idle, at most `MOST_SHARE` of the time.

    A measurement is a series of steps. It ends without result as soon as a session speaks, so that the session waits
    for one step at most.

    Args:
        workers: All workers of the machine.
        meter: Takes over what is measured.
        probe: The steps of a measurement.
        clocks: What measures them.
        memory: Keeps what the idle machine can do for the next start.
        sleep: Waits for a number of seconds.
    """

    def __init__(
        self,
        workers: Sequence[MeasurableWorker],
        meter: LoadMeter,
        probe: CostProbe,
        clocks: Clocks,
        memory: CostMemory,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._workers, self._meter, self._probe, self._clocks = workers, meter, probe, clocks
        self._memory, self._sleep = memory, sleep
        self._n_measured, self._n_failed = 0, 0
        self._since_s = 0.0
        self._last_took_s = 0.0

    async def run(self) -> None:
        """Measure again and again, until cancelled."""
        while True:
            await self._sleep(TICK_S)
            self._since_s += TICK_S
            if self._is_wanted and self._is_idle:
                await self._try()

    @property
    def _is_wanted(self) -> bool:
        """Whether to measure now: often at first and while steps are dear, rarely otherwise, within `MOST_SHARE`."""
        often = self._n_failed < MAX_FAILURES and (self._n_measured < N_FIRST or self._meter.scale > DEAR)
        return self._since_s >= max(TICK_S if often else RARE_S, self._last_took_s / MOST_SHARE)

    @property
    def _is_idle(self) -> bool:
        return all(worker.is_idle for worker in self._workers)

    async def _try(self) -> None:
        worker = self._workers[0]
        try:
            timings = await self._timings(worker)
            self._n_failed = 0
        except OverloadError as error:  # nobody's fault, and what is to be measured will be there later too
            timings = None
            log.info("calibration_put_off", reason=str(error))
        except EngineError as error:
            timings = None
            self._n_failed += 1
            log.warning("calibration_failed", failures=self._n_failed, error=str(error))
        # not in a `finally`: when this task is cancelled, the device thread may have ended
        await worker.forget(self._probe.sessions())
        self._since_s = 0.0
        if timings:
            await self._take_over(timings)

    async def _timings(self, worker: MeasurableWorker) -> list[Timing] | None:
        """Timings of all steps of the probe; None where a session began to speak."""
        timings = []
        for batch in self._probe.batches():
            timings.append(await worker.time_step(batch, self._clocks))
            if not self._is_idle:
                return None
        return timings

    async def _take_over(self, timings: Sequence[Timing]) -> None:
        self._n_measured += 1
        self._last_took_s = sum(timing.work_s for timing in timings)
        measured = self._probe.costs(timings)
        self._meter.calibrate(measured)
        await asyncio.to_thread(self._memory.note, measured.work)
