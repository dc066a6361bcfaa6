"""Tests of streamer/remote/joined.py: several gateways on engines that another process keeps alive."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from streamer.engine_process import run
from streamer.host.sockets import listen
from streamer.remote import wire
from streamer.remote.decoder import RemoteDecoder
from streamer.remote.joined import Address, JoinedPool
from streamer.remote.launch import EngineProcess
from streamer.remote.supervision import SupervisedPool, ready_all
from streamer.scheduling.worker import WorkerOptions
from streamer.telemetry.metrics import EngineMetrics, ServiceMetrics
from tests.helpers import hosted_engines
from tests.helpers.hosted_engines import FINGERPRINT, meter
from tests.helpers.scripted_engine import ScriptedService, running
from tests.helpers.waiting import until
from tests.streamer.remote.test_contract import texts
from tests.streamer.remote.test_supervision import program, recite_many


@contextlib.asynccontextmanager
async def kept_alive(folder: Path) -> AsyncIterator[tuple[SupervisedPool, Address]]:
    """One engine process that is kept alive, and where gateways reach it."""
    with listen(f"unix:{folder / '0'}", 0) as listening:
        programs = [replace(program(), listening=listening)]
        processes = [EngineProcess(each) for each in programs]
        await ready_all(processes)
        pool = SupervisedPool(programs, processes, FINGERPRINT, lambda _: None)
        running = asyncio.create_task(pool.run())
        try:
            yield pool, Address(name="0", path=folder / "0")
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


@contextlib.asynccontextmanager
async def on_a_thread(folder: Path) -> AsyncIterator[Address]:
    """The same engine in this process, never lost."""
    ours, theirs = socket.socketpair()
    with ours, listen(f"unix:{folder / '0'}", 0) as listening:
        ours.sendall(wire.pack(program().begin))
        ended = asyncio.create_task(asyncio.to_thread(run, theirs, hosted_engines.build, listening=listening))
        yield Address(name="0", path=folder / "0")
        ours.shutdown(socket.SHUT_RDWR)
        assert await ended == 0


def gateway(address: Address, fingerprint: str = FINGERPRINT) -> tuple[JoinedPool, ScriptedService]:
    """One gateway of several."""
    pool, metrics = JoinedPool([address], fingerprint), ServiceMetrics(CollectorRegistry())
    decoder = RemoteDecoder(
        pool,
        0,
        fingerprint=fingerprint,
        meter=meter(),
        n_places=2,
        metrics=metrics,
        engine_metrics=EngineMetrics(CollectorRegistry()),
    )
    return pool, ScriptedService(
        max_sessions=100, worker=WorkerOptions(tick_s=0.02), decoder=lambda _, __: decoder, supervision=pool.run
    )


async def test_text_is_exact_of_two_gateways_on_one_engine_that_is_killed(tmp_path: Path) -> None:
    """Both go on with the process that follows, which they reach at the same place."""
    async with asyncio.timeout(120), kept_alive(tmp_path) as (engines, address):
        gateways = [gateway(address) for _ in range(2)]
        async with running(gateways[0][1].scheduler), running(gateways[1][1].scheduler):
            await until(lambda: all(service.scheduler.is_ready() for _, service in gateways))
            telling = [asyncio.create_task(recite_many(service, 10, i)) for i, (_, service) in enumerate(gateways)]
            await asyncio.sleep(0.5)
            os.kill(engines.places[0].pid, signal.SIGKILL)
            results = await asyncio.gather(*telling)
            places = [pool.places[0] for pool, _ in gateways]
            assert [place.n_restarts for place in places] == [1, 1]
            assert [place.pid for place in places] == [engines.places[0].pid] * 2

    for heard, said in results:
        assert heard == said


async def test_gateways_tell_each_other_how_many_sessions_speak(tmp_path: Path) -> None:
    """Through their engine: so the interval between steps fits the load of all, and nobody measures beside others."""
    async with asyncio.timeout(120), on_a_thread(tmp_path) as address:
        (_, first), (_, second) = gateway(address), gateway(address)
        async with running(first.scheduler), running(second.scheduler):
            await until(first.scheduler.is_ready)
            stream = first.open()
            speaking = asyncio.create_task(recite_many(first, 3, 0))
            worker = second.workers[0]
            await until(lambda: worker.decoder.n_speaking_elsewhere >= 2)
            assert not worker.is_idle
            await speaking
            stream.end()
            await until(lambda: worker.is_idle)
            assert texts([event async for event in stream]) == []


async def test_an_engine_with_other_weights_is_not_used(tmp_path: Path) -> None:
    """It stays away for this gateway, which says so and tries again."""
    async with asyncio.timeout(120), on_a_thread(tmp_path) as address:
        pool, _ = gateway(address, "other")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1.0):
                await asyncio.gather(pool.run(), pool.changed())
        assert pool.places[0].link is None


async def test_an_engine_counts_once_it_is_connected(tmp_path: Path) -> None:
    """Before, it has no places to give: its process may be away when the gateway starts."""
    pool, service = gateway(Address(name="0", path=tmp_path / "0"))
    decoder = service.workers[0].decoder
    run = asyncio.create_task(pool.run())
    assert (pool.places[0].is_lost, decoder.capacity) == (True, 0)
    async with asyncio.timeout(120), on_a_thread(tmp_path):
        await until(lambda: not pool.places[0].is_lost)
        assert decoder.capacity > 0
        run.cancel()
