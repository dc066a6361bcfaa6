"""The contract of `Decoder` on Ray: real actors with scripted engines, which are killed and stopped; so is the head."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator
from importlib.util import find_spec

import psutil
import pytest
import pytest_asyncio

from streamer.config import Config, EnginesConfig, ModelConfig
from streamer.errors import EngineError, ModelNotFoundError
from streamer.extras import pip_install
from streamer.gateway import keep
from streamer.remote import wire
from streamer.remote.cluster import Keeper, first_ready
from streamer.scheduling.worker import WorkerOptions
from tests.helpers.hosted_engines import FINGERPRINT
from tests.helpers.scripted_engine import ScriptedService, running
from tests.helpers.tcp_engines import KEEP, TcpPool
from tests.helpers.waiting import until
from tests.streamer.remote.test_contract import (
    Under,
    test_a_poisoned_row_affects_no_other,  # noqa: F401 - the contract, of this implementation
    test_a_step_is_measured_where_it_is_run,  # noqa: F401
    test_answers_are_in_the_order_of_the_requests,  # noqa: F401
)
from tests.streamer.remote.test_supervision import recite_many

pytestmark = [
    pytest.mark.skipif(find_spec("ray") is None, reason=f"needs Ray: {pip_install('ray')}"),
    pytest.mark.asyncio(loop_scope="module"),
]
BUILD = "tests.helpers.hosted_engines:build"
LIMIT_S = 120.0
"""A cluster starts in seconds, but not on a machine that is full of other work."""


def is_gone(pid: int) -> bool:
    """Whether a process has ended; who should take notice of it may have ended too."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pool() -> AsyncIterator[TcpPool]:
    """The engines of a Ray cluster of this machine: two, and up to three."""
    engines = EnginesConfig(where="ray", count=2, most=3)
    # the scripted engine takes the name of its model as its fingerprint
    asked = keep(Config(model=ModelConfig(name=FINGERPRINT, device="cpu"), engines=engines), build=BUILD)
    keeper = Keeper(asked)
    try:
        bounds, ready = await first_ready(keeper)
    except EngineError as error:
        await keeper.end()
        if "timed out during startup" in str(error):  # three times: its parts wait 15 s for each other
            pytest.skip(f"Ray does not start on a machine so full of other work: {error}")
        raise
    assert (bounds.count, bounds.most) == (2, 3)
    assert [each.nice for each in ready] == [os.nice(0)] * len(ready)
    found = TcpPool(keeper, 2, most=3)
    task = asyncio.create_task(found.run())
    async with asyncio.timeout(LIMIT_S):
        await found.until_alive(0, 1)
    yield found
    gone = [place.pid for place in found.places if place.pid]
    task.cancel()
    await asyncio.wait({task})
    await until(lambda: all(map(is_gone, gone)))


@pytest_asyncio.fixture(loop_scope="module")
async def under(pool: TcpPool) -> AsyncIterator[Under]:
    """The decoder of a worker on Ray."""
    decoder = pool.decoder(patience_s=10.0)
    yield Under(decoder, [])
    decoder.close()


@contextlib.asynccontextmanager
async def service(pool: TcpPool) -> AsyncIterator[ScriptedService]:
    """A service on these engines, with a worker for each."""
    homes = iter(range(3))
    found = ScriptedService(
        n_workers=3,
        max_sessions=200,
        worker=WorkerOptions(tick_s=0.02),
        decoder=lambda _, __: pool.decoder(next(homes), patience_s=1.0),
    )
    async with asyncio.timeout(3 * LIMIT_S), running(found.scheduler):
        yield found


def no_weights(begin: wire.Begin) -> None:
    """Builds no engine."""
    raise ModelNotFoundError(f"no model {begin.config.model.name}")


async def test_an_engine_that_cannot_start_gives_its_place_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a while, for which it says why: a keeper that still wants it begins it anew."""
    from streamer.remote.ray import _Service

    ended = list[tuple[object, bool]]()
    monkeypatch.setattr("streamer.remote.ray.FAILED_S", 0.0)
    monkeypatch.setattr("streamer.remote.ray.logs.configure", lambda *_: None)
    monkeypatch.setattr("ray.kill", lambda actor, *, no_restart: ended.append((actor, no_restart)))
    service = _Service(KEEP.begin, f"{__name__}:no_weights", "127.0.0.1", "actor")
    service.run()
    assert service.look().failure == "no model tiny.en"
    assert ended == [("actor", True)]


async def test_an_engine_that_cannot_start_ends_without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the head is away nobody would take its GPU back."""
    from ray.exceptions import RayError

    from streamer.remote.ray import _Service

    def away(*_: object, **__: object) -> None:
        raise RayError("the head is away")

    codes = list[int]()
    monkeypatch.setattr("streamer.remote.ray.FAILED_S", 0.0)
    monkeypatch.setattr("streamer.remote.ray.logs.configure", lambda *_: None)
    monkeypatch.setattr("streamer.remote.ray.os._exit", codes.append)
    monkeypatch.setattr("ray.kill", away)
    _Service(KEEP.begin, f"{__name__}:no_weights", "127.0.0.1", "actor").run()
    assert codes == [1]


async def test_a_cluster_that_begins_no_engine_now_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever Ray raises, at whichever call: its keeper goes on."""
    from ray.exceptions import RayError

    from streamer.remote.ray import RayCluster

    def lost(*_: object) -> None:
        raise RayError("the head is lost")

    monkeypatch.setattr("streamer.remote.ray._connect", lambda _: None)
    monkeypatch.setattr("ray.cluster_resources", lambda: {"CPU": 2.0})
    monkeypatch.setattr("ray.util.list_named_actors", list)
    monkeypatch.setattr(RayCluster, "_begun", lost)
    cluster = RayCluster(KEEP)

    with pytest.raises(EngineError, match="Ray does not answer: the head is lost"):
        cluster.look()
    with pytest.raises(EngineError, match="Ray does not answer: the head is lost"):
        cluster.set_number(1)


async def test_text_is_exact_whatever_happens_to_the_cluster(pool: TcpPool) -> None:
    """A hundred and twenty sessions; engines are killed, stopped, replaced and added; at last the head is killed."""
    async with service(pool) as found:
        first, second = (place.pid for place in pool.places[:2])
        speaking = asyncio.create_task(recite_many(found, 40, seed=1))
        await asyncio.sleep(0.5)
        os.kill(first, signal.SIGKILL)
        heard, said = await speaking
        assert heard == said
        await pool.until_alive(0)
        assert pool.places[0].pid not in (0, first)
        assert [place.n_restarts for place in pool.places] == [1, 0, 0]

        await pool._keeper.set_number(3)
        speaking = asyncio.create_task(recite_many(found, 40, seed=2))
        await asyncio.sleep(0.3)
        os.kill(second, signal.SIGSTOP)
        await asyncio.sleep(1.0)
        os.kill(second, signal.SIGCONT)
        heard, said = await speaking
        assert heard == said
        await pool.until_alive(1, 2)
        assert pool.places[1].pid == second

        # more than one where the machine was so busy that a start of the cluster has failed
        heads = [each for each in psutil.Process().children(recursive=True) if each.name() == "gcs_server"]
        assert heads
        pids = [place.pid for place in pool.places]
        speaking = asyncio.create_task(recite_many(found, 40, seed=3))
        await asyncio.sleep(0.5)
        for head in heads:
            head.kill()
        heard, said = await speaking
        assert heard == said
        await pool.until_alive(0, 1, 2)
        assert [place.pid for place in pool.places] == pids
