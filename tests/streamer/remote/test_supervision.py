"""Tests of streamer/remote/launch.py and supervision.py, with real processes that are killed and stopped."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import psutil
import pytest
from prometheus_client import CollectorRegistry

from streamer.config import Config, ModelConfig
from streamer.errors import EngineError, ModelNotFoundError
from streamer.remote import supervision, wire
from streamer.remote.decoder import RemoteDecoder
from streamer.remote.launch import EngineProcess, Program
from streamer.remote.supervision import SupervisedPool, ready_all
from streamer.scheduling.worker import WorkerOptions
from streamer.telemetry.metrics import EngineMetrics, ServiceMetrics
from tests.helpers.descriptors import no_descriptors
from tests.helpers.hosted_engines import COMMAND, FINGERPRINT, meter
from tests.helpers.scripted_engine import ScriptedService, running
from tests.streamer.remote.test_contract import say, story, texts


def program(name: str = "0", command: Sequence[str] = COMMAND, fingerprint: str = FINGERPRINT) -> Program:
    """An engine process with the scripted engine."""
    # the scripted engine takes the name of its model as its fingerprint
    config = Config(model=ModelConfig(name=fingerprint))
    begin = wire.Begin(version=wire.VERSION, config=config, name=name)
    return Program(command=command, environment={"OMP_NUM_THREADS": "1"}, begin=begin)


@contextlib.asynccontextmanager
async def started(n: int) -> AsyncIterator[tuple[SupervisedPool, ScriptedService]]:
    """A service on so many engine processes, each with its worker."""
    programs = [program(str(i)) for i in range(n)]
    processes = [EngineProcess(each) for each in programs]
    await ready_all(processes)
    pool = SupervisedPool(programs, processes, FINGERPRINT, lambda _: None)
    homes, metrics = iter(range(n)), ServiceMetrics(CollectorRegistry())
    service = ScriptedService(
        n_workers=n,
        max_sessions=200,
        worker=WorkerOptions(tick_s=0.02),
        decoder=lambda _, __: RemoteDecoder(
            pool,
            next(homes),
            fingerprint=FINGERPRINT,
            meter=meter(),
            n_places=2,
            metrics=metrics,
            engine_metrics=EngineMetrics(CollectorRegistry()),
        ),
        supervision=pool.run,
    )
    async with asyncio.timeout(300), running(service.scheduler):
        yield pool, service


async def until_alive(pool: SupervisedPool) -> None:
    """Wait until every engine answers."""
    while any(place.is_lost or place.link is None for place in pool.places):
        await pool.changed()


async def recite_many(service: ScriptedService, n: int, seed: int) -> tuple[list[str], list[str]]:
    """What so many sessions said, and what was said to them."""
    said = [story(10 + i % 12, seed=1000 * seed + i) for i in range(n)]
    events = await asyncio.gather(*(say(service.open(), [text]) for text in said))
    return [" ".join(texts(each)) for each in events], said


async def test_text_is_exact_while_processes_are_killed_and_stopped() -> None:
    """A hundred sessions; each engine is lost once, and both at once; what was lost is there again by itself."""
    async with started(2) as (pool, service):
        await until_alive(pool)
        pids = [place.pid for place in pool.places]
        speaking = asyncio.create_task(recite_many(service, 50, seed=1))
        await asyncio.sleep(0.5)
        os.kill(pids[0], signal.SIGKILL)
        found, said = await speaking
        assert found == said
        await until_alive(pool)
        assert pool.places[0].pid not in (0, pids[0])
        assert [place.n_restarts for place in pool.places] == [1, 0]

        speaking = asyncio.create_task(recite_many(service, 50, seed=2))
        await asyncio.sleep(0.3)
        os.kill(pids[1], signal.SIGSTOP)
        await asyncio.sleep(1.0)
        os.kill(pool.places[0].pid, signal.SIGKILL)
        os.kill(pids[1], signal.SIGCONT)
        found, said = await speaking
        assert found == said
        assert service.scheduler.is_alive
        assert pool.places[1].pid == pids[1]
        gone = [place.pid for place in pool.places]

    assert not any(map(psutil.pid_exists, [*pids, *gone])), "an engine outlived its gateway"


async def test_the_reason_of_a_failed_start_is_told() -> None:
    """With its own class, from the real program: a model that is not there; nothing is left behind."""
    real = (sys.executable, "-m", "streamer.engine_process")
    process = EngineProcess(program(command=real, fingerprint="tinny.en"))

    with pytest.raises(ModelNotFoundError, match=r"did you mean tiny\.en"):
        await ready_all([process])

    assert not psutil.pid_exists(process.pid)


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (("/nonexistent/python",), "cannot be started"),
        ((sys.executable, "-c", "raise SystemExit(3)"), "ended while it started"),
        (
            (sys.executable, "-c", "import os, sys; os.write(int(sys.argv[1]), b'\\0\\0\\0\\1x')"),
            "ended while it started",
        ),
    ],
)
async def test_a_program_that_is_no_engine(command: tuple[str, ...], message: str) -> None:
    """An error with the name of the engine."""
    with pytest.raises(EngineError, match=f"engine 0.*{message}"):
        await ready_all([EngineProcess(program(command=command))])


def test_an_engine_for_which_no_descriptors_are_left_can_be_tried_again() -> None:
    """An error as others, not one that ends the daemon."""
    with no_descriptors(), pytest.raises(EngineError, match=r"engine 0: .* cannot be started: .*Too many open files"):
        EngineProcess(program())


async def test_an_engine_that_cannot_be_started_again_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a bounded number of starts the service ends; a start with other weights is none."""
    monkeypatch.setattr(supervision, "PAUSES_S", (0.0, 0.0))
    foreign = program(fingerprint="other")
    process = EngineProcess(program())
    await ready_all([process])
    pool = SupervisedPool([foreign], [process], FINGERPRINT, lambda _: None)
    os.kill(process.pid, signal.SIGKILL)

    with pytest.raises(ExceptionGroup) as group:
        async with asyncio.timeout(120), asyncio.TaskGroup() as tasks:
            tasks.create_task(pool.run())

    assert "none of 1 engine processes can be kept alive" in str(group.value.exceptions[0])
    assert pool.has_given_up


async def test_an_engine_that_was_given_up_comes_back(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It is tried again for as long as another one serves, and used as before."""
    monkeypatch.setattr(supervision, "PAUSES_S", (0.0,))
    monkeypatch.setattr(supervision, "RETRY_S", 0.0)
    driver = tmp_path / "driver"
    needs_driver = program(command=("sh", "-c", f'test -e {driver} && exec "$@"', "sh", *COMMAND))
    processes = [EngineProcess(program(str(i))) for i in range(2)]
    await ready_all(processes)
    pool = SupervisedPool([needs_driver, program("1")], processes, FINGERPRINT, lambda _: None)
    async with asyncio.timeout(120), asyncio.TaskGroup() as tasks:
        running = tasks.create_task(pool.run())
        await until_alive(pool)
        os.kill(processes[0].pid, signal.SIGKILL)
        while not pool.places[0].is_given_up:
            await pool.changed()
        driver.touch()
        await until_alive(pool)
        assert (pool.places[0].n_restarts, pool.has_given_up) == (1, False)
        running.cancel()


async def test_an_engine_ends_with_its_gateway() -> None:
    """However the gateway ends: its end of the connection is closed."""
    process = EngineProcess(program())
    await ready_all([process])

    process.connection.close()

    assert await asyncio.to_thread(process._process.wait, 60) == 0
