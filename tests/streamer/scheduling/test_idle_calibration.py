"""Tests of streamer/scheduling/idle_calibration.py: a machine on a simulated clock, with other work beside it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import pytest
import structlog.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.errors import EngineError, OverloadError
from streamer.scheduling.calibration import Clocks, CostProbe, Timing, measure_costs
from streamer.scheduling.cost_memory import CostMemory
from streamer.scheduling.idle_calibration import (
    MAX_FAILURES,
    MOST_SHARE,
    N_FIRST,
    RARE_S,
    TICK_S,
    IdleCalibration,
)
from streamer.scheduling.load import LoadLimits, LoadMeter, StepCosts, least
from streamer.scheduling.worker import Worker
from streamer.step import Engine, StepRequest
from tests.helpers.scripted_engine import recite, serving, story, texts

IDLE = StepCosts(0.04, 0.015)
PROBE = CostProbe(5, 8)


class OverError(Exception):
    """The simulated time is over."""


class Machine:
    """
    Workers on a simulated clock.

    Other work makes steps take longer: `load` by the clock on the wall, `inflation` by thread time too. Both jitter.
    """

    def __init__(self, n_workers: int = 2, load: float = 1.0, inflation: float = 1.0, scale: float = 1.0) -> None:
        self.load, self.inflation, self.scale = load, inflation, scale
        self.now_s, self.work_s = 0.0, 0.0
        self.end_s = 0.0
        self.n_steps = 0
        self.forgotten = list[str]()
        self.failing = self.is_away = False
        self.workers = [SimulatedWorker(self) for _ in range(n_workers)]
        self._random = random.Random(0)

    def boot(self, folder: Path | None = None, limit_s: float = 2.0) -> None:
        """Measure as at the start, with what is remembered in the folder."""
        memory = CostMemory(folder, {"machine": "simulated"}, PROBE.n_rows, now=lambda: 1e9 + self.now_s)
        measured, remembered = measure_costs(cast(Engine, self), PROBE, self.clocks), memory.recall()
        memory.note(measured)
        costs = least(measured, remembered, PROBE.n_rows) if remembered else measured
        self.meter = LoadMeter(LoadLimits(min_interval_s=0.3, max_interval_s=limit_s), 8, costs)
        self.calibration = IdleCalibration(self.workers, self.meter, PROBE, self.clocks, memory, sleep=self.sleep)

    @property
    def clocks(self) -> Clocks:
        """Both clocks of the machine."""
        return Clocks(lambda: self.work_s, lambda: self.now_s)

    @property
    def places(self) -> int:
        """Sessions admitted at most."""
        return len(self.workers) * self.meter.capacity

    def step(self, batch: Sequence[StepRequest]) -> None:
        """A step of the engine."""
        if self.failing:
            raise EngineError("a step failed")
        if self.is_away:
            raise OverloadError("the engine does not answer", retry_after_s=1.0)
        self.n_steps += 1
        cost_s = self.scale * IDLE.step_s(len(batch)) * self._random.uniform(1.0, 1.1)
        self.work_s += cost_s * self._random.uniform(1.0, self.inflation)
        self.now_s += cost_s * self.inflation * self._random.uniform(1.0, self.load)

    def forget(self, session: str) -> None:
        """Noted."""
        self.forgotten.append(session)

    async def sleep(self, seconds: float) -> None:
        """Until the end at most."""
        if self.now_s + seconds > self.end_s:
            self.now_s = self.end_s
            raise OverError
        self.now_s += seconds

    async def rest(self, seconds: float) -> None:
        """Nobody speaks for so long."""
        self.end_s = self.now_s + seconds
        with pytest.raises(OverError):
            await self.calibration.run()


class SimulatedWorker:
    """A worker whose steps take simulated time; `n_idle` looks find it idle, then a session speaks."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self.n_idle: int | None = None

    @property
    def is_idle(self) -> bool:
        """Whether nobody speaks."""
        if self.n_idle is None:
            return True
        self.n_idle -= 1
        return self.n_idle >= 0

    async def time_step(self, batch: Sequence[StepRequest], clocks: Clocks) -> Timing:
        """Run a step."""
        work_s, wall_s = clocks.work(), clocks.wall()
        self._machine.step(batch)
        return Timing(clocks.work() - work_s, clocks.wall() - wall_s)

    async def forget(self, sessions: Sequence[str]) -> None:
        """Noted."""
        for session in sessions:
            self._machine.forget(session)


def idle_places() -> int:
    """What a machine without other work offers."""
    machine = Machine()
    machine.boot()
    return machine.places


@settings(max_examples=25)
@given(load=st.floats(1, 10), inflation=st.floats(1, 2.5), minutes=st.floats(0, 10))
async def test_places_return_a_minute_after_other_work(load: float, inflation: float, minutes: float) -> None:
    """A start beside any work, on a machine without memory, and the work is gone: places as on the idle machine."""
    machine = Machine(load=load, inflation=inflation)
    machine.boot()
    await machine.rest(60 * minutes)
    machine.load = machine.inflation = 1.0
    await machine.rest(60)

    assert machine.places == pytest.approx(idle_places(), rel=0.15)


@settings(max_examples=15)
@given(load=st.floats(1, 10), inflation=st.floats(1, 2.5))
async def test_a_start_under_load_offers_what_the_idle_machine_can_do(
    tmp_path_factory: pytest.TempPathFactory, load: float, inflation: float
) -> None:
    """The start before remembered it; where the work is gone a minute later, nothing has changed."""
    folder = tmp_path_factory.mktemp("costs")
    Machine().boot(folder)
    machine = Machine(load=load, inflation=inflation)
    machine.boot(folder)
    assert machine.places == pytest.approx(idle_places(), rel=0.15)

    machine.load = machine.inflation = 1.0
    await machine.rest(60)
    assert machine.places == pytest.approx(idle_places(), rel=0.15)


async def test_a_start_under_load_is_remembered_only_until_the_machine_does_better(tmp_path: Path) -> None:
    """The first start of all met other work: the idle minutes after it correct the file."""
    machine = Machine(load=4.0, inflation=2.5)
    machine.boot(tmp_path)
    machine.load = machine.inflation = 1.0
    await machine.rest(60)

    again = Machine(load=4.0, inflation=2.5)
    again.boot(tmp_path)
    assert again.places == pytest.approx(idle_places(), rel=0.15)


async def test_a_machine_that_became_slow_falls_and_recovers() -> None:
    """A laptop on battery has fewer places while nobody speaks, and all of them on the mains."""
    machine = Machine()
    machine.boot()
    await machine.rest(600)
    machine.scale = 4.0
    machine.meter.observe(4.0 * IDLE.step_s(4) * 3, 4, 1)  # a step of a session shows it
    for _ in range(3):
        machine.meter.observe(4.0 * IDLE.step_s(4), 4, 1)
    await machine.rest(60)
    assert machine.places < idle_places() / 2

    machine.scale = 1.0
    await machine.rest(60)
    assert machine.places == pytest.approx(idle_places(), rel=0.15)


@settings(max_examples=10)
@given(scale=st.floats(0.1, 30), load=st.floats(1, 10))
async def test_measurements_cost_little(scale: float, load: float) -> None:
    """However slow the machine is: a small part of the time, and one measurement."""
    machine = Machine(load=load, scale=scale)
    machine.boot()
    began_s, before_s, before = machine.now_s, machine.work_s, machine.n_steps
    await machine.rest(1800)

    spent_s, n_measured = machine.work_s - before_s, (machine.n_steps - before) / 8
    assert n_measured >= 1
    # no measurement takes more than 1.1 times another, and the first one comes early
    assert spent_s <= 1.2 * MOST_SHARE * (machine.now_s - began_s) + spent_s / n_measured


async def test_a_fast_machine_at_rest_is_left_alone() -> None:
    """Once it was often found as fast as ever, it is measured every few minutes, not every few seconds."""
    machine = Machine()
    machine.boot()
    before = machine.n_steps
    await machine.rest(3600)

    assert N_FIRST <= (machine.n_steps - before) / 8 <= N_FIRST + 15


async def test_a_session_that_speaks_waits_for_one_step() -> None:
    """The measurement ends after the step that runs, changes nothing, and leaves nothing cached."""
    machine = Machine(load=5.0)
    machine.boot()
    before, places = machine.n_steps, machine.places
    machine.workers[1].n_idle = 3
    machine.forgotten.clear()
    await machine.rest(TICK_S + 5)

    assert machine.n_steps - before == 3
    assert machine.places == places
    assert set(machine.forgotten) == set(PROBE.sessions())


async def test_nothing_is_measured_while_a_session_speaks() -> None:
    """Its steps are measurements enough."""
    machine = Machine()
    machine.boot()
    before = machine.n_steps
    machine.workers[1].n_idle = 0
    await machine.rest(600)

    assert machine.n_steps == before


def restless(worker: Worker) -> IdleCalibration:
    """Measures this worker without a pause."""
    memory = CostMemory(None, {}, PROBE.n_rows)
    return IdleCalibration([worker], worker.meter, PROBE, Clocks(), memory, sleep=lambda _: asyncio.sleep(0))


async def test_a_measurement_can_be_cancelled() -> None:
    """A daemon that stops in the middle of a measurement ends as it always does."""
    async with serving() as service:
        worker = service.worker
        calibration = restless(worker)
        service.engine.hold()
        task = asyncio.create_task(calibration.run())
        await service.held()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        service.engine.release()


async def test_sessions_are_served_beside_measurements() -> None:
    """Measurements without pause: every word is there, and the device thread is told alive."""
    text = story(20)
    async with serving() as service:
        worker = service.worker
        calibration = restless(worker)
        task = asyncio.create_task(calibration.run())
        assert texts(await recite(service.open(), text, pause_s=1.0)) == [text]
        assert worker.is_alive
        task.cancel()


async def test_measurements_that_fail_become_rare() -> None:
    """An engine that refuses the probe is asked a few times, then rarely, until it answers; sessions go on."""
    machine = Machine()
    machine.boot()
    machine.failing = True
    with structlog.testing.capture_logs() as logs:
        await machine.rest(MAX_FAILURES * TICK_S + 2 * RARE_S)
    assert [line["event"] for line in logs] == ["calibration_failed"] * (MAX_FAILURES + 2)

    machine.failing = False
    n_steps = machine.n_steps
    await machine.rest(RARE_S)
    assert machine.n_steps > n_steps


async def test_an_engine_that_is_away_is_measured_later() -> None:
    """However often it was away before."""
    machine = Machine()
    machine.boot()
    before, machine.is_away = machine.n_steps, True
    await machine.rest(MAX_FAILURES * 10 * TICK_S)
    assert machine.n_steps == before
    machine.is_away = False
    await machine.rest(10 * TICK_S)

    assert machine.n_steps > before
