"""
An engine that is built anew when its device fails.

A step that fails may be the fault of what it was asked, or of the device. A probe tells them apart: a step that has
worked before. If the probe works, the error is the batch's, and whoever asked retries row by row. If it fails too, the
engine is built again, with pauses, a counted number of times; sessions only see a late step, since all they have heard
is theirs. An engine that cannot be had back ends the daemon: a new process gets a new context on the device, and
clients resume there.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import structlog

from streamer.errors import DeviceError, DeviceLostError
from streamer.step import Engine, StepRequest, StepResult
from streamer.telemetry.metrics import ServiceMetrics

log = structlog.get_logger()

PAUSES_S = (0.0, 0.5, 2.0)
"""Before each try to build the engine again; then it is given up. Together less than the unit's watchdog allows."""


class RecoveringEngine:
    """
    Args:
        engine: The first one.
        build: Makes another; called on the thread that steps.
        probe: A request that any healthy engine answers.
        metrics: Where to count.
        sleep: Waits some seconds.
    """

    def __init__(
        self,
        engine: Engine,
        build: Callable[[], Engine],
        probe: StepRequest,
        metrics: ServiceMetrics,
        *,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._engine: Engine | None = engine
        self._build, self._probe, self._metrics, self._sleep = build, probe, metrics, sleep

    def step(self, batch: Sequence[StepRequest]) -> list[StepResult]:
        """
        As `Engine.step`; a device that fails is given several chances.

        Raises:
            EngineError: The batch is at fault; the device is well.
            DeviceLostError: The device does not come back.
        """
        assert self._engine is not None
        try:
            return self._engine.step(batch)
        except DeviceError as error:
            if _answers(self._engine, self._probe):
                raise
            reason = str(error)
        # outside of `except`: the traceback holds the engine, whose memory is needed for the next one
        return self._restart(reason).step(batch)

    def forget(self, session: str) -> None:
        """As `Engine.forget`."""
        if self._engine is not None:
            self._engine.forget(session)

    def _restart(self, reason: str) -> Engine:
        for attempt, pause_s in enumerate(PAUSES_S, 1):
            log.error("engine_restarting", attempt=attempt, error=reason)
            self._engine = None
            self._sleep(pause_s)
            try:
                engine = self._build()
            except RuntimeError as error:  # torch reports a failing device so
                reason = f"the engine cannot be built: {error}"
                continue
            if _answers(engine, self._probe):
                self._metrics.restarts.inc()
                self._engine = engine
                return engine
        raise DeviceLostError(f"the device does not work after {len(PAUSES_S)} restarts of the engine: {reason}")


def _answers(engine: Engine, probe: StepRequest) -> bool:
    try:
        engine.step([probe])
    except DeviceError:
        return False
    return True
