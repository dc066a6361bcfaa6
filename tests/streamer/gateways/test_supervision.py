"""Tests of streamer/gateways/launch.py and supervision.py, with processes that say what gateways say."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import psutil
import pytest
from prometheus_client import CollectorRegistry

from streamer.config import Config
from streamer.errors import ConfigError, StreamerError
from streamer.gateways import launch, supervision, wire
from streamer.gateways.launch import GatewayProcess, GatewayProgram
from streamer.gateways.supervision import Gateways
from streamer.telemetry.metrics import GatewayMetrics
from tests.helpers import hubs
from tests.helpers.descriptors import no_descriptors
from tests.helpers.hubs import hub
from tests.helpers.waiting import until

GATEWAY = """
import msgspec, os, socket, struct, sys, time
hub = socket.socket(fileno=int(sys.argv[-1]))
def say(**message):
    body = msgspec.msgpack.encode(message)
    hub.sendall(struct.pack(">I", len(body)) + body)
def hear():
    (length,) = struct.unpack(">I", hub.recv(4, socket.MSG_WAITALL))
    return msgspec.msgpack.decode(hub.recv(length, socket.MSG_WAITALL))
assert hear()["type"] == "Begin"
say(type="Serving", version=1, pid=os.getpid())
hub.settimeout(0.05)
while True:
    try:
        message = hear()
    except TimeoutError:
        say(type="Alive")
        continue
    except struct.error:
        break
    if message["type"] == "Stop":
        break
"""
"""A gateway that serves nobody; it ends when it is told to, or its parent is gone."""
FAILED = GATEWAY.replace(
    'say(type="Serving", version=1, pid=os.getpid())',
    'say(type="Failed", kind="ConfigError", message="no such language")',
)


def program(index: int, code: str = GATEWAY) -> GatewayProgram:
    """A gateway process without sockets."""
    begin = wire.Begin(version=wire.VERSION, config=Config(), index=index, ready=(), engines=(), sockets=())
    return GatewayProgram(command=(sys.executable, "-c", code), begin=begin)


class Running:
    """Gateways that are kept alive."""

    def __init__(self, programs: Sequence[GatewayProgram]) -> None:
        self.registry = CollectorRegistry()
        self.hub = hub()
        self.gateways = Gateways(programs, self.hub, GatewayMetrics(self.registry), drain_s=0.0)

    @property
    def pids(self) -> list[int]:
        """Of the present processes; 0 where there is none."""
        return [gateway.process.pid if gateway.process else 0 for gateway in self.gateways.each]

    def count(self, metric: str) -> float:
        """Value of a metric."""
        return self.registry.get_sample_value(metric) or 0.0


@contextlib.asynccontextmanager
async def started(n: int = 2) -> AsyncIterator[Running]:
    """So many gateways; stopped at the end."""
    running = Running([program(index) for index in range(n)])
    await running.gateways.start()
    task = asyncio.create_task(running.gateways.run())
    yield running
    running.gateways.stop()
    await task
    assert running.hub.members == ()


async def test_a_gateway_that_is_killed_is_started_again() -> None:
    """The other one goes on; all end when they are told to."""
    async with asyncio.timeout(120), started() as running:
        before = running.pids
        assert len(running.hub.members) == 2
        os.kill(before[0], signal.SIGKILL)
        await until(lambda: running.count("streamer_gateway_restarts_total") == 1)
        assert running.pids[0] not in (0, before[0])
        assert running.pids[1] == before[1]
        assert running.count("streamer_gateways") == 2
        after = running.pids
    assert not any(map(psutil.pid_exists, (*before, *after)))


async def test_all_are_replaced_one_after_the_other() -> None:
    """The new one serves before the old one ends, so there are never fewer."""
    async with asyncio.timeout(120), started() as running:
        before, fewest = running.pids, list[int]()
        replacing = asyncio.create_task(running.gateways.replace())
        while not replacing.done():
            fewest.append(len(running.hub.members))
            await asyncio.sleep(0.01)
        assert set(running.pids).isdisjoint({0, *before})
        assert min(fewest) >= 2
        assert running.count("streamer_gateways_replaced_total") == 2
        assert running.count("streamer_gateway_restarts_total") == 0


async def test_all_read_their_keys_again() -> None:
    """Those that start too, and those that have a successor: a key that was taken away opens none of them."""
    middle, heard = hub(), list[wire.FromHub]()
    gateways = Gateways([], middle, GatewayMetrics(CollectorRegistry()), drain_s=0.0)
    async with hubs.gateway(middle, "0") as first, hubs.gateway(middle, "0", serves=False) as second:
        first.handle = second.handle = heard.append
        await until(lambda: len(middle.members) == 2)
        gateways.reload()
        await until(lambda: len(heard) == 2)
    assert heard == [wire.Reload(), wire.Reload()]


async def test_a_gateway_that_stands_still_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    """When it has given no sign of life for a time; one that does not end in time too."""
    monkeypatch.setattr(launch, "TICK_S", 0.05)
    monkeypatch.setattr(supervision, "MARGIN_S", 0.2)
    async with asyncio.timeout(120), started(1) as running:
        [pid] = running.pids
        os.kill(pid, signal.SIGSTOP)
        monkeypatch.setattr(launch, "HANGING_S", 0.3)
        await until(lambda: running.pids != [pid])
        monkeypatch.setattr(launch, "HANGING_S", 60.0)  # its successor may be slow
        await until(lambda: running.count("streamer_gateway_restarts_total") == 1)
        os.kill(running.pids[0], signal.SIGSTOP)


async def test_gateways_that_stood_still_with_their_parent_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container that was paused: longer than a gateway may hang, and nobody is replaced."""
    monkeypatch.setattr(launch, "HANGING_S", 1.0)
    monkeypatch.setattr(launch, "TICK_S", 0.01)
    async with asyncio.timeout(120), started(1) as running:
        [pid], [member] = running.pids, running.hub.members
        os.kill(pid, signal.SIGSTOP)
        await until(lambda: member.silent_s > 0.1)
        time.sleep(1.0)  # noqa: ASYNC251 - the parent stands still
        os.kill(pid, signal.SIGCONT)
        await until(lambda: not member.silent_s)
        assert (running.pids, running.count("streamer_gateway_restarts_total")) == ([pid], 0)


async def test_a_stop_does_not_wait_for_the_next_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """A gateway that waits to be started again is not started any more."""
    monkeypatch.setattr(supervision, "PAUSES_S", (600.0,))
    async with asyncio.timeout(120), started(1) as running:
        os.kill(running.pids[0], signal.SIGKILL)
        await until(lambda: running.pids == [0])
    assert running.count("streamer_gateway_restarts_total") == 0


async def test_no_gateway_is_replaced_once_all_are_to_end(tmp_path: Path) -> None:
    """A replacement that is under way does not hold up the stop."""
    begun = tmp_path / "begun"
    async with asyncio.timeout(120), started() as running:
        for gateway in running.gateways.each:
            gateway._program = program(0, f"open({str(begun)!r}, 'w')")
        running.gateways.stop()
        await running.gateways.replace()
    assert not begun.exists()


async def test_the_reason_of_a_failed_start_is_told() -> None:
    """With its own class; those that could start are ended."""
    running = Running([program(0), program(1, FAILED)])
    with pytest.raises(ConfigError, match="no such language"):
        await running.gateways.start()
    assert running.hub.members == ()


@pytest.mark.parametrize(
    ("code", "message"),
    [("raise SystemExit(3)", "ended while it started"), (GATEWAY.replace("version=1", "version=0"), "another version")],
)
async def test_a_program_that_is_no_gateway(code: str, message: str) -> None:
    """An error with the number of the gateway."""
    with pytest.raises(StreamerError, match=f"gateway 0.*{message}"):
        await Running([program(0, code)]).gateways.start()


async def test_a_gateway_for_which_no_descriptors_are_left_can_be_tried_again() -> None:
    """An error as others, not one that ends the daemon."""
    with no_descriptors(), pytest.raises(StreamerError, match=r"gateway 0: .* cannot be started: .*Too many open"):
        GatewayProcess(program(0), hub())


async def test_a_gateway_that_was_given_up_comes_back(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It is tried again for as long as another one serves, and metrics tell that it is missed."""
    monkeypatch.setattr(supervision, "PAUSES_S", (0.0,))
    monkeypatch.setattr(supervision, "RETRY_S", 0.0)
    memory = tmp_path / "memory"
    async with asyncio.timeout(120), started() as running:
        first, _ = running.gateways.each
        first._program = program(0, f"import pathlib\nassert pathlib.Path({str(memory)!r}).exists()\n{GATEWAY}")
        os.kill(running.pids[0], signal.SIGKILL)
        await until(lambda: first.is_given_up)
        assert (running.count("streamer_gateways"), running.count("streamer_gateways_configured")) == (1, 2)
        memory.touch()
        await until(lambda: running.count("streamer_gateways") == 2)
        assert not first.is_given_up
        assert running.count("streamer_gateway_restarts_total") == 1


async def test_gateways_that_cannot_be_started_again_are_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then the daemon ends; a successor that cannot start leaves the present one."""
    monkeypatch.setattr(supervision, "PAUSES_S", (0.0, 0.0))
    running = Running([program(0)])
    await running.gateways.start()
    [gateway] = running.gateways.each
    gateway._program = program(0, "raise SystemExit(3)")
    before = running.pids
    task = asyncio.create_task(running.gateways.run())
    await running.gateways.replace()
    assert running.pids == before
    os.kill(before[0], signal.SIGKILL)
    async with asyncio.timeout(120):
        with pytest.raises(StreamerError, match="none of 1 gateway processes can be kept alive"):
            await task
    assert not running.gateways.is_alive
