"""Tests of streamer/gateway.py: which engine processes there are, and the service that is built on them."""

from __future__ import annotations

import asyncio

import msgspec
import psutil
import pytest
import torch

from streamer import gateway
from streamer.config import Config, EnginesConfig, ModelConfig
from streamer.errors import ConfigError, EngineError, ModelNotFoundError
from streamer.gateway import build_gateway, build_service, programs
from streamer.protocol.options import SessionOptions
from streamer.scheduling.scheduler import running
from tests.helpers.hosted_engines import COMMAND, FINGERPRINT
from tests.helpers.waiting import until_idle

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

    assert [program.environment["CUDA_VISIBLE_DEVICES"] for program in programs(config)] == shown


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

    assert not any(map(psutil.pid_exists, pids))


def test_a_language_that_the_model_does_not_know(monkeypatch: pytest.MonkeyPatch) -> None:
    """Is found when the engines are there; they end with the error."""
    german = msgspec.structs.replace(CPU, session=SessionOptions(language="de"))

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
