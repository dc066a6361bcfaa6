"""
An engine that is rebuilt when its device fails.

A failed step is the fault of its batch or of the device. A probe, a request that worked before, tells them apart. If
the probe works, the error belongs to the batch, and the caller retries row by row. If the probe fails too, the engine
is rebuilt, with pauses and a bounded number of attempts; sessions only see a late step, since their audio and text do
not live in the engine. If the engine cannot be rebuilt, the daemon ends: a new process gets a new context on the
device, and clients resume there.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Sequence

import structlog

from streamer.errors import DeviceError, DeviceLostError
from streamer.step import CachingEngine, Engine, StepRequest, StepResult
from streamer.telemetry.metrics import ServiceMetrics

log = structlog.get_logger()

PAUSES_S = (0.0, 0.5, 2.0)
"""Pause before each attempt to rebuild the engine. Together less than the watchdog of the systemd unit allows."""


class RecoveringEngine:
    """
    Wraps an engine and replaces it when its device fails.

    Args:
        engine: The first engine; nothing else may hold it, since its memory is needed for the next one.
        build: Builds another engine; called on the thread that runs steps.
        probe: A request that any healthy engine answers.
        metrics: Counts restarts.
        sleep: Blocks for a number of seconds.
    """

    def __init__(
        self,
        engine: CachingEngine,
        build: Callable[[], CachingEngine],
        probe: StepRequest,
        metrics: ServiceMetrics,
        *,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._engine: CachingEngine | None = engine
        self._build, self._probe, self._metrics, self._sleep = build, probe, metrics, sleep

    @property
    def cache_bytes(self) -> tuple[int, int]:
        """Bytes of keys and values of text and of audio that the present engine holds; zeros while there is none."""
        engine = self._engine
        return engine.cache_bytes if engine is not None else (0, 0)

    def step(self, batch: Sequence[StepRequest]) -> list[StepResult]:
        """
        Run one step; if the device fails, rebuild the engine and run the step again.

        Raises:
            EngineError: The batch is at fault; the device works.
            DeviceLostError: The device does not work after the last attempt.
        """
        assert self._engine is not None
        try:
            return self._engine.step(batch)
        except DeviceError as error:
            if _answers(self._engine, self._probe):
                raise
            reason = str(error)
        # outside of `except`: the traceback holds the old engine, whose memory the new one needs
        return self._restart(reason).step(batch)

    def forget(self, session: str) -> None:
        """Release everything cached for a session that is over."""
        if self._engine is not None:
            self._engine.forget(session)

    def _restart(self, reason: str) -> CachingEngine:
        for attempt, pause_s in enumerate(PAUSES_S, 1):
            log.error("engine_restarting", attempt=attempt, error=reason)
            self._engine = None
            gc.collect()  # an engine in a circle of references would keep its memory
            self._sleep(pause_s)
            try:
                self._engine = self._build()
            except RuntimeError as error:  # torch reports a failing device as RuntimeError
                reason = f"the engine cannot be built: {error}"
                continue
            if _answers(self._engine, self._probe):
                self._metrics.restarts.inc()
                return self._engine
        raise DeviceLostError(f"the device does not work after {len(PAUSES_S)} restarts of the engine: {reason}")


def _answers(engine: Engine, probe: StepRequest) -> bool:
    try:
        engine.step([probe])
    except DeviceError:
        return False
    return True
