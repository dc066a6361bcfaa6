"""Tests of streamer/gateway.py: which engine processes there are, and the service that is built on them."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import psutil
import pytest
import torch

from streamer import gateway
from streamer.build.costs import cost_memory
from streamer.config import Config, EnginesConfig, ModelConfig, SchedulerConfig, ServerConfig
from streamer.engine_process import ready
from streamer.errors import ConfigError, EngineError, ModelNotFoundError
from streamer.gateway import build_gateway, build_on_cluster, build_service, keep, programs
from streamer.protocol.options import SessionOptions
from streamer.remote.joined import Address, JoinedPool
from streamer.scheduling.idle_calibration import IdleCalibration
from streamer.scheduling.load import StepCosts
from streamer.scheduling.scheduler import running
from tests.helpers import scripted_keeper
from tests.helpers.hosted_engines import COMMAND, FINGERPRINT, facts
from tests.helpers.waiting import until, until_idle

CPU = Config(model=ModelConfig(name=FINGERPRINT, device="cpu", threads=2), engines=EnginesConfig(where="processes"))


def with_count(config: Config, count: int) -> Config:
    """The same with a number of engines."""
    return msgspec.structs.replace(config, engines=msgspec.structs.replace(config.engines, count=count))


def test_a_cpu_has_an_engine_for_each_thread() -> None:
    """As many as it has workers in one process; or as many as the configuration says."""
    assert [program.begin.name for program in programs(CPU)] == ["0", "1"]
    assert len(programs(with_count(CPU, 5))) == 5
    assert all(program.environment == {} for program in programs(CPU))


@pytest.mark.parametrize(
    ("seen", "count", "shown"),
    [
        ("", 0, ["0", "1", "2"]),
        ("4,6, 7", 0, ["4", "6", "7"]),
        ("", 2, ["0", "1"]),
        ("", 4, ["0", "1", "2", "0"]),
        ("GPU-a,GPU-b,GPU-c", 1, ["GPU-a"]),
    ],
)
def test_each_engine_sees_one_gpu(monkeypatch: pytest.MonkeyPatch, seen: str, count: int, shown: list[str]) -> None:
    """Of those that this process may use; more engines than GPUs share them."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", seen)
    config = with_count(Config(model=ModelConfig(device="cuda"), engines=EnginesConfig(where="processes")), count)

    started = programs(config)
    assert [program.environment["CUDA_VISIBLE_DEVICES"] for program in started] == shown
    assert [program.begin.sharing for program in started] == [shown.count(gpu) for gpu in shown]


async def test_the_service_of_engine_processes(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its facts come from the engines: no weights are loaded; a worker for each, and the costs that they measured.

    The model for second passes that sessions ask for is one of theirs.
    """
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    config = msgspec.structs.replace(CPU, session=SessionOptions(revise="second"))
    service = await asyncio.to_thread(build_gateway, config, programs(config, command=COMMAND))
    scheduler = service.scheduler
    assert (scheduler.model, scheduler.languages, scheduler.revisers) == ("toy", ("en",), ("second",))
    pids = [engine.pid for engine in scheduler.statistics().engines]
    assert len(set(pids)) == 2
    assert scheduler.capacity > 0
    assert not scheduler.is_ready(), "nobody runs it yet"
    value = service.registry.get_sample_value

    async with running(scheduler):
        stream = scheduler.open(SessionOptions(language="en"))
        stream.end()
        assert [event async for event in stream]
        await until_idle()  # the gateway has taken over the connections
        assert scheduler.is_ready()
        assert [value("streamer_engine_alive", {"engine": name}) for name in "01"] == [1, 1]
        await until(lambda: (value("streamer_engine_resident_memory_bytes", {"engine": "1"}) or 0) > 10e6)

    assert not any(map(psutil.pid_exists, pids))


def test_what_engines_remember_is_replaced_by_nothing_dearer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A gateway measures while nobody speaks, but other work may have the machine."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    cost_memory({}, 2).note(StepCosts(0.0, 0.001))
    pool = JoinedPool([Address(name="0", path=tmp_path / "0")], FINGERPRINT)
    service = gateway._service(CPU, [ready(facts(), StepCosts(0.0, 0.001), {}, [])], lambda *_: pool)
    calibration: IdleCalibration = service.scheduler._background[1].__self__  # type: ignore[attr-defined]

    calibration._memory.note(StepCosts(0.0, 0.002))

    assert cost_memory({}, 2).recall() == StepCosts(0.0, 0.001)


def test_a_language_that_the_model_does_not_know(monkeypatch: pytest.MonkeyPatch) -> None:
    """Is found when the engines are there; they end with the error."""
    german = msgspec.structs.replace(with_count(CPU, 1), session=SessionOptions(language="de"))

    with pytest.raises(ConfigError, match=r"session\.language"):
        build_gateway(german, programs(german, command=COMMAND))


def test_engines_with_different_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that was replaced while they loaded it: better no service than two vocabularies."""
    other = msgspec.structs.replace(CPU, model=msgspec.structs.replace(CPU.model, name="other"))
    mixed = [programs(CPU, command=COMMAND)[0], programs(other, command=COMMAND)[1]]

    with pytest.raises(EngineError, match="different weights"):
        build_gateway(CPU, mixed)


def test_engines_in_this_process_are_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """The configuration says where they are; a failure is told alike."""
    with pytest.raises(ModelNotFoundError):
        build_service(Config(model=ModelConfig(name="tinny.en")))

    monkeypatch.setattr(gateway, "build_gateway", lambda config, programs: (config, len(programs)))
    assert build_service(CPU) == (CPU, 2)


# --- engines on a cluster

RAY = Config(model=ModelConfig(name=FINGERPRINT, device="cpu"), engines=EnginesConfig(where="ray", count=2, most=3))


async def test_the_service_of_engines_on_a_cluster(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker for each engine that there may be; sessions are given to those whose engine is there."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    service = await asyncio.to_thread(build_on_cluster, RAY, keep(RAY), scripted_keeper.COMMAND)
    scheduler = service.scheduler
    assert (scheduler.model, scheduler.languages) == ("toy", ("en",))
    assert not scheduler.is_ready(), "nobody runs it yet"
    value = service.registry.get_sample_value

    async with running(scheduler):
        await until(lambda: value("streamer_engine_alive", {"engine": "1"}) == 1)
        await until(scheduler.is_ready)
        assert value("streamer_engine_alive", {"engine": "2"}) is None, "there shall be two, and at most three"
        for _ in range(4):
            scheduler.open(SessionOptions(language="en"))
        assert [len(worker.streams) for worker in scheduler._workers] == [2, 2, 0]


def test_a_language_that_no_engine_of_the_cluster_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    """The keeper ends with the error."""
    german = msgspec.structs.replace(RAY, session=SessionOptions(language="de"))

    with pytest.raises(ConfigError, match=r"session\.language"):
        build_on_cluster(german, keep(german), scripted_keeper.COMMAND)


def test_gateways_share_the_engines_of_what_they_load() -> None:
    """And no others: another model, arithmetic or window begins engines of its own; a port does not."""
    elsewhere = msgspec.structs.replace(RAY, server=ServerConfig(port=1234))
    base = msgspec.structs.replace(RAY, model=ModelConfig(name="base"))
    long = msgspec.structs.replace(RAY, scheduler=SchedulerConfig(max_window_s=18.0))

    assert keep(elsewhere).family == keep(RAY).family
    assert len({keep(each).family for each in (RAY, base, long)}) == 3
    assert len({keep(RAY).family, keep(RAY, random_weights=True).family, keep(RAY, build="other:build").family}) == 3


def test_where_says_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    """The keeper is told what the configuration has."""
    monkeypatch.setattr(gateway, "build_on_cluster", lambda config, keep: keep)
    found = build_service(msgspec.structs.replace(RAY, engines=EnginesConfig(where="ray", count=2, address="auto")))

    assert (found.address, found.count, found.most) == ("auto", 2, 0)
    assert found.build == gateway.BUILD
