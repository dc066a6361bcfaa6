"""Tests of streamer/remote/cluster.py: engines that are lost, move, and have other weights; keepers that are lost."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Sequence

import msgspec
import pytest
import torch

from streamer.errors import EngineError, ModelNotFoundError
from streamer.remote import cluster, roster, scaling, wire
from streamer.remote.cluster import ClusterPool, Keeper, first_ready
from streamer.remote.link import EngineLink
from streamer.step import StepResult
from tests.helpers.engines import request
from tests.helpers.hosted_engines import FINGERPRINT
from tests.helpers.tcp_engines import KEEP, MemoryKeeper, TcpEngine, TcpPool, pool_of
from tests.helpers.waiting import until

WINDOW = torch.full((5, 60), 0.1)


@contextlib.asynccontextmanager
async def running(pool: ClusterPool) -> AsyncIterator[None]:
    """Run a pool for the length of a block; its failure ends the block."""
    async with asyncio.timeout(120), asyncio.TaskGroup() as group:
        task = group.create_task(pool.run())
        yield
        task.cancel()


async def step(pool: TcpPool, session: str = "a") -> StepResult:
    """The answer to a step of the first worker."""
    decoder = pool.decoder(patience_s=5.0)
    stepped = await decoder.step([request(WINDOW, session)])
    decoder.close()
    assert isinstance(stepped.answers[0], StepResult)
    return stepped.answers[0]


async def test_a_connection_that_is_lost_is_made_again() -> None:
    """To the same engine, which has not ended: it counts as no restart."""
    engines = [TcpEngine(index) for index in range(2)]
    async with pool_of(engines) as (pool, _), running(pool):
        await pool.until_alive(0, 1)
        engines[0].lose()
        while not pool.places[0].is_lost:
            await pool.changed()
        await step(pool)
        await pool.until_alive(0)

    assert [place.n_restarts for place in pool.places] == [0, 0]
    assert len(engines[1].engine.batches) == 1


async def test_an_engine_that_has_moved_is_followed() -> None:
    """Ray has started it again elsewhere: another address, another secret, another process."""
    engines = [TcpEngine(index) for index in range(2)]
    async with pool_of(engines) as (pool, keeper), running(pool):
        await pool.until_alive(0, 1)
        async with TcpEngine(0).open() as there:
            moved = msgspec.structs.replace(there, pid=77)
            keeper.tell(moved, engines[1].address())
            while pool.places[0].pid != 77:
                await pool.changed()
            assert pool.places[0].n_restarts == 1
            await step(pool)
    assert not engines[0].engine.batches


async def test_an_engine_with_other_weights_gets_no_steps(caplog: pytest.LogCaptureFixture) -> None:
    """Though its name and its secret are right."""
    engines = [TcpEngine(0, fingerprint="other"), TcpEngine(1)]
    async with pool_of(engines) as (pool, _), running(pool):
        await pool.until_alive(1)
        await step(pool)

    assert not engines[0].engine.batches
    assert pool.places[0].is_lost
    assert pool.places[0].pid == 0


async def test_an_engine_that_comes_later_is_used() -> None:
    """A cluster grows while captions run."""
    first = TcpEngine(0)
    async with pool_of([first], most=2) as (pool, keeper), running(pool):
        await pool.until_alive(0)
        async with TcpEngine(1).open() as there:
            keeper.tell(first.address(), there)
            await pool.until_alive(1)
            assert not pool.places[1].is_lost
        while not pool.places[1].is_lost:
            await pool.changed()


async def test_only_engines_that_there_shall_be_are_missed() -> None:
    """One beyond those that there always are: from its first answer until the load asks for fewer."""
    first = TcpEngine(0)
    async with pool_of([first], most=2) as (pool, keeper), running(pool):
        await pool.until_alive(0)
        assert [place.is_wanted for place in pool.places] == [True, False]
        async with TcpEngine(1).open() as there:
            keeper.tell(first.address(), there)
            await pool.until_alive(1)
        while not pool.places[1].is_lost:
            await pool.changed()
        assert pool.places[1].is_wanted
        keeper.tell(first.address())
        await until(lambda: not pool.places[1].is_wanted)

    assert pool.places[0].is_wanted


async def test_the_gateway_goes_on_while_its_keeper_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the engines that it knows; it starts another keeper, which finds them all."""
    monkeypatch.setattr(cluster, "KEEPER_PAUSE_S", 0.01)
    later = MemoryKeeper()
    monkeypatch.setattr(cluster, "Keeper", lambda keep, command: later)
    engines = [TcpEngine(index) for index in range(2)]
    async with pool_of(engines) as (pool, keeper), running(pool):
        await pool.until_alive(0, 1)
        keeper.fail()
        await until(lambda: keeper.has_ended)
        await step(pool)
        async with TcpEngine(0).open() as there:
            later.tell(msgspec.structs.replace(there, pid=77))
            while pool.places[0].pid != 77:
                await pool.changed()

    assert later.has_ended, "it ends with the gateway"


async def test_a_keeper_that_cannot_be_started_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without room for one more process has room again later."""
    monkeypatch.setattr(cluster, "KEEPER_PAUSE_S", 0.01)
    errors, later = [EngineError("no room"), OSError("no descriptors")], MemoryKeeper()

    def start(keep: roster.Keep, command: Sequence[str]) -> MemoryKeeper:
        if errors:
            raise errors.pop()
        return later

    monkeypatch.setattr(cluster, "Keeper", start)
    engine = TcpEngine(0)
    async with pool_of([engine]) as (pool, keeper), running(pool):
        await pool.until_alive(0)
        for _ in range(3):
            keeper.fail()
        later.tell(msgspec.structs.replace(engine.address(), pid=77))
        while pool.places[0].pid != 77:
            await pool.changed()


class StuckKeeper(MemoryKeeper):
    """A keeper that finds no cluster and does not say so."""

    async def begin(self) -> roster.Bounds:
        """Wait for ever."""
        await asyncio.Event().wait()
        return await super().begin()


async def test_a_keeper_that_does_not_begin_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may hang while it looks for the cluster."""
    for name, seconds in (("KEEPER_PAUSE_S", 0.01), ("START_S", 0.01), ("SILENT_S", 0.2)):
        monkeypatch.setattr(cluster, name, seconds)
    stuck, later = StuckKeeper(), MemoryKeeper()
    keepers: list[MemoryKeeper] = [stuck]
    monkeypatch.setattr(cluster, "Keeper", lambda keep, command: keepers.pop() if keepers else later)
    engine = TcpEngine(0)
    async with pool_of([engine]) as (pool, keeper), running(pool):
        await pool.until_alive(0)
        keeper.fail()
        later.tell(msgspec.structs.replace(engine.address(), pid=77))
        while pool.places[0].pid != 77:
            await pool.changed()

    assert stuck.has_ended


async def test_another_keeper_keeps_as_many_engines(monkeypatch: pytest.MonkeyPatch) -> None:
    """Though there shall be one for each GPU of the cluster, which may have more of them by now."""
    monkeypatch.setattr(cluster, "KEEPER_PAUSE_S", 0.01)
    asked, later = list[roster.Keep](), MemoryKeeper()

    def start(keep: roster.Keep, command: Sequence[str]) -> MemoryKeeper:
        asked.append(keep)
        return later

    monkeypatch.setattr(cluster, "Keeper", start)
    async with pool_of([TcpEngine(0)], most=3) as (pool, keeper), running(pool):
        await pool.until_alive(0)
        keeper.fail()
        await until(lambda: asked)

    assert [(keep.count, keep.most) for keep in asked] == [(1, 3)]


async def test_the_number_of_engines_follows_the_load(monkeypatch: pytest.MonkeyPatch) -> None:
    """The keeper is asked for one more while the devices are busy, once until it is there."""
    monkeypatch.setattr(cluster, "SCALE_S", 0.001)
    monkeypatch.setattr(scaling, "GROWS_AFTER_S", 0.01)
    monkeypatch.setattr(EngineLink, "share", 0.9)
    engine = TcpEngine(0)
    async with pool_of([engine], most=2) as (pool, keeper), running(pool):
        await pool.until_alive(0)
        await until(lambda: keeper.numbers)
        await asyncio.sleep(0.05)

    assert keeper.numbers == [2]


async def test_a_keeper_that_has_ended_is_told_in_vain() -> None:
    """The load may change while the gateway waits to start another one: captions go on."""
    keeper = saying(roster.Bounds(count=1, most=2))
    await keeper.begin()
    await keeper.end()
    await keeper.set_number(2)


# --- the start


def program(code: str) -> Keeper:
    """A keeper that runs a few lines of Python, with its connection in `lines`."""
    head = "import socket, sys; lines = socket.socket(fileno=int(sys.argv[1])).makefile('rwb'); lines.readline(); "
    return Keeper(KEEP, (sys.executable, "-c", head + code))


def saying(*messages: roster.Line | wire.Failed) -> Keeper:
    """A keeper that says this, and waits for its end."""
    said = b"".join(map(roster.line, messages))
    return program(f"lines.write({said!r}); lines.flush(); lines.readline()")


async def test_a_start_waits_for_the_first_engine() -> None:
    """Not for all: a cluster may have no room for them yet."""
    bounds = roster.Bounds(count=2, most=3)
    async with TcpEngine(0).open() as there:
        away = msgspec.structs.replace(there, index=1, port=1)
        keeper = saying(bounds, roster.Roster(n=1, ready=()), roster.Roster(n=2, ready=(away, there)))
        found, ready = await first_ready(keeper)
        await keeper.end()

    assert found == bounds
    assert [each.facts.fingerprint for each in ready] == [FINGERPRINT]


@pytest.mark.parametrize(
    ("said", "error", "message"),
    [
        ([wire.Failed(kind="EngineError", message="needs Ray")], EngineError, "needs Ray"),
        ([wire.Failed(kind="ModelNotFoundError", message="no such model")], ModelNotFoundError, "no such model"),
        (
            [roster.Bounds(count=1, most=1), roster.Roster(n=1, ready=(), failures=("engine 0: no such model",))],
            EngineError,
            "engine 0: no such model",
        ),
    ],
)
async def test_a_start_that_fails_says_why(
    said: list[roster.Line | wire.Failed], error: type[Exception], message: str
) -> None:
    """As the keeper has told."""
    keeper = saying(*said)
    with pytest.raises(error, match=message):
        await first_ready(keeper)
    await keeper.end()


async def test_a_start_without_room_for_an_engine_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """In bounded time, with where to look."""
    monkeypatch.setattr(cluster, "START_S", 0.3)
    keeper = saying(roster.Bounds(count=1, most=1), roster.Roster(n=1, ready=()))
    with pytest.raises(EngineError, match="ray status"):
        await first_ready(keeper)
    await keeper.end()


@pytest.mark.parametrize("code", ["sys.exit(3)", "lines.write(b'x\\n'); lines.flush()"])
async def test_a_program_that_is_no_keeper(code: str) -> None:
    """Is an error, not a wait."""
    keeper = program(code)
    with pytest.raises((EngineError, wire.WireError), match="keeper"):
        await first_ready(keeper)
    await keeper.end()
