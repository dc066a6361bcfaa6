"""A decoder whose engine is far away, in memory: answers come late, and some steps are lost and asked for again."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Sequence

from streamer.scheduling.calibration import Clocks, Timing
from streamer.scheduling.decoder import LocalDecoder, Stepped
from streamer.scheduling.device_thread import DeviceThread
from streamer.scheduling.load import LoadMeter
from streamer.step import Engine, StepRequest
from streamer.telemetry.statistics import EngineStatistics


class AwayDecoder:
    """
    Runs steps beside the worker's thread.

    Args:
        engine: Runs them.
        meter: As that of a `LocalDecoder`.
        seed: Of what is late and what is lost.
        late_s: A step and its answer are under way for up to so long each, seconds.
        lost: Part of the steps that are lost on their way there, after the first, which always is.
        n_places: Steps under way at most.
    """

    def __init__(
        self, engine: Engine, meter: LoadMeter, seed: int, late_s: float = 0.05, lost: float = 0.3, n_places: int = 2
    ) -> None:
        self.load, self.thread = meter, DeviceThread()
        self.n_lost = self.most_under_way = 0
        self._away = LocalDecoder("away", engine, meter, DeviceThread())
        self._random, self._late_s, self._lost, self._n_places = random.Random(seed), late_s, lost, n_places
        self._n_under_way = 0
        self.is_beside = self.is_alive = self.is_ready = True
        self.n_speaking_elsewhere = 0

    @property
    def has_place(self) -> bool:
        """Fewer steps are under way than may be."""
        return self._n_under_way < self._n_places

    @property
    def capacity(self) -> int:
        """As measured."""
        return self.load.capacity

    def tell_speaking(self, n_speaking: int) -> None:
        """As `Decoder.tell_speaking`."""

    async def step(self, batch: Sequence[StepRequest]) -> Stepped:
        """As `Decoder.step`."""
        self._n_under_way += 1
        self.most_under_way = max(self.most_under_way, self._n_under_way)
        try:
            while True:
                await asyncio.sleep(self._random.random() * self._late_s)
                if not self._is_lost():
                    stepped = await self._away.step(batch)
                    await asyncio.sleep(self._random.random() * self._late_s)
                    return stepped
                self.n_lost += 1
        finally:
            self._n_under_way -= 1

    def _is_lost(self) -> bool:
        return self._random.random() < self._lost if self.n_lost else self._lost > 0.0

    async def time_step(self, batch: Sequence[StepRequest], clocks: Clocks) -> Timing:
        """As `Decoder.time_step`."""
        return await self._away.time_step(batch, clocks)

    async def forget(self, sessions: Sequence[str]) -> None:
        """As `Decoder.forget`."""
        await self._away.forget(sessions)

    def statistics(self) -> EngineStatistics:
        """Of an engine that is alive."""
        return EngineStatistics(
            name="away", pid=os.getpid(), n_rows=0, row_cost_s=self.load.row_cost_s, is_alive=True, n_restarts=0
        )

    def close(self) -> None:
        """End both threads."""
        self.thread.close()
        self._away.close()
