"""Tests of streamer/engine/recovery.py: an engine whose device fails, and comes back or does not."""

from __future__ import annotations

import weakref
from collections.abc import Sequence

import pytest
import torch
from prometheus_client import CollectorRegistry

from streamer.engine.recovery import PAUSES_S, RecoveringEngine
from streamer.errors import DeviceError, DeviceLostError, EngineError
from streamer.step import StepRequest, StepResult
from streamer.telemetry.metrics import ServiceMetrics
from tests.helpers.engines import request
from tests.helpers.scripted_engine import ScriptedEngine, ScriptedService, collect, serving, spoken, story, texts

PROBE = request(torch.zeros(5, 10), "probe")


class SizedEngine(ScriptedEngine):
    """An engine that is known by the memory that it holds."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self._number = number

    @property
    def cache_bytes(self) -> tuple[int, int]:
        """Different for each engine."""
        return self._number, 10 * self._number


class Device:
    """Engines on a device that fails as often as a test says."""

    def __init__(self, n_steps_fail: int = 0, n_builds_fail: int = 0) -> None:
        self.registry = CollectorRegistry()
        self.n_steps_fail, self.n_builds_fail = n_steps_fail, n_builds_fail
        self.slept_s: list[float] = []
        self.n_built = 0
        self.built: list[weakref.ref[ScriptedEngine]] = []
        self.n_alive_at_build: list[int] = []
        """Engines that still existed, at each build but the first."""
        self.engine = RecoveringEngine(
            self.build(), self.build, PROBE, ServiceMetrics(self.registry), sleep=self.slept_s.append
        )

    def build(self) -> ScriptedEngine:
        """An engine, if the device allows it."""
        if self.n_built and self.n_builds_fail:
            self.n_builds_fail -= 1
            raise RuntimeError("CUDA error: out of memory")
        if self.n_built:
            self.n_alive_at_build.append(sum(engine() is not None for engine in self.built))
        self.n_built += 1
        engine = SizedEngine(self.n_built)
        engine.on_step = self.fail
        self.built.append(weakref.ref(engine))
        return engine

    def fail(self, batch: Sequence[StepRequest]) -> None:
        """A step, the probe too, fails while the device does."""
        if self.n_steps_fail:
            self.n_steps_fail -= 1
            raise DeviceError("the device failed")

    def step(self, *batch: StepRequest) -> list[StepResult]:
        """One step."""
        return self.engine.step(batch or [request(torch.full((5, 60), 0.1))])

    @property
    def n_restarts(self) -> float | None:
        """As Prometheus sees it."""
        return self.registry.get_sample_value("streamer_engine_restarts_total")


def test_a_batch_at_fault_is_given_back() -> None:
    """The probe works, so the engine stays, and the error is for whoever asked."""
    device = Device(n_steps_fail=1)

    with pytest.raises(DeviceError, match="the device failed"):
        device.step()
    assert (device.n_built, device.n_restarts) == (1, 0)
    assert device.step()


def test_a_device_at_fault_gets_a_new_engine() -> None:
    """The probe fails too: a new engine answers the same batch, and nobody hears of it."""
    device = Device(n_steps_fail=2)

    assert device.step()
    assert (device.n_built, device.n_restarts, device.slept_s) == (2, 1, [PAUSES_S[0]])


def test_an_engine_that_cannot_be_built_is_tried_again_after_a_pause() -> None:
    """An engine that cannot be built, or does not work, is tried again after a pause."""
    device = Device(n_steps_fail=3, n_builds_fail=1)

    assert device.step()
    assert device.n_restarts == 1
    assert device.slept_s == list(PAUSES_S[:3])


def test_a_device_is_lost_after_the_last_attempt() -> None:
    """After counted tries the error is one that no session is blamed for, and ends the daemon."""
    device = Device(n_steps_fail=1000)

    with pytest.raises(DeviceLostError, match=f"after {len(PAUSES_S)} restarts of the engine: the device failed"):
        device.step()
    assert not issubclass(DeviceLostError, EngineError)
    assert device.slept_s == list(PAUSES_S)


@pytest.mark.parametrize(("n_steps_fail", "n_builds_fail"), [(2, 0), (3, 0), (4, 0), (2, 1), (3, 1), (2, 2)])
def test_dead_engines_are_not_kept(n_steps_fail: int, n_builds_fail: int) -> None:
    """When a new engine is built, no earlier one exists: on a GPU there is memory for one of them."""
    device = Device(n_steps_fail=n_steps_fail, n_builds_fail=n_builds_fail)

    assert device.step()
    assert device.n_alive_at_build == [0] * (device.n_built - 1)
    assert [engine() is not None for engine in device.built] == [False] * (device.n_built - 1) + [True]


def test_memory_is_that_of_the_present_engine() -> None:
    """The gauges ask the engine that took the place of the dead one."""
    device = Device()
    assert device.engine.cache_bytes == (1, 10)
    device.n_steps_fail = 2
    device.step()
    assert device.engine.cache_bytes == (2, 20)


async def test_sessions_see_a_late_step() -> None:
    """Several sessions speak while the device fails again and again: every word is there, none twice."""
    text = story(30)
    device = Device()
    async with serving(max_sessions=8, engine=device.engine) as service:
        streams = [service.open() for _ in range(4)]
        sound = spoken(text, pause_s=1.0)
        for at in range(0, len(sound), 16_000):
            device.n_steps_fail = 2
            for stream in streams:
                await stream.feed(sound[at : at + 16_000])
        for stream in streams:
            stream.end()
        said = [texts(await collect(stream)) for stream in streams]

    assert said == [[text]] * 4
    assert (device.n_restarts or 0) >= 1


async def test_a_lost_device_ends_the_scheduler() -> None:
    """The worker raises: the daemon ends, and its service manager starts a new process."""
    service = ScriptedService(engine=Device(n_steps_fail=1000).engine)
    stream = service.open()
    await stream.feed(spoken("b c d", pause_s=1.0))

    with pytest.raises(ExceptionGroup) as group:
        await service.scheduler.run()
    assert group.group_contains(DeviceLostError)
