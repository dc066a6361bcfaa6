"""Tests of streamer/engine_process.py, on a thread of this process."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Iterator

import msgspec
import pytest
import torch
from prometheus_client import CollectorRegistry

from streamer import engine_process
from streamer.build.engines import build_engines
from streamer.config import Config, ModelConfig
from streamer.engine_process import Build, Hosted, build, run
from streamer.errors import CheckpointError, DeviceLostError
from streamer.remote import wire
from streamer.scheduling.load import LoadLimits, LoadMeter, StepCosts
from streamer.scheduling.revision_decoder import SESSION
from streamer.step import StepRequest, StepResult
from tests.helpers import hosted_engines
from tests.helpers.engines import log_mel, request
from tests.helpers.recordings import Recording

BEGIN = wire.Begin(
    version=wire.VERSION,
    config=Config(model=ModelConfig(name="tiny.en", dtype="float32", device="cpu", threads=2)),
    name="0",
    measures=False,
)


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    """Building sets the threads of the process: put them back."""
    n = torch.get_num_threads()
    yield
    torch.set_num_threads(n)


@pytest.fixture(scope="module")
def here() -> Hosted:
    """An engine of this process, as it is built in its own; it remembers no more of one test than of one session."""
    n = torch.get_num_threads()
    built = build(BEGIN)
    torch.set_num_threads(n)
    return built


class Gateway:
    """The other end of the connection."""

    def __init__(self, build: Build) -> None:
        self.socket, theirs = socket.socketpair()
        self.socket.setblocking(False)
        self.code = asyncio.create_task(asyncio.to_thread(run, theirs, build))

    async def send(self, message: wire.Message) -> None:
        """One message."""
        await asyncio.get_running_loop().sock_sendall(self.socket, wire.pack(message))

    async def receive(self) -> wire.FromEngine:
        """One message."""
        async with asyncio.timeout(120):
            length = wire.FRAMING.length_of(await self._exactly(wire.LENGTH.size))
            return wire.from_engine(await self._exactly(length))

    async def _exactly(self, n: int) -> bytes:
        data = b""
        while len(data) < n:
            data += await asyncio.get_running_loop().sock_recv(self.socket, n - len(data))
        return data

    async def ended(self) -> int:
        """Exit code of the engine process."""
        async with asyncio.timeout(120):
            return await asyncio.shield(self.code)

    async def ask(self, ready: wire.Ready, request: StepRequest, first: int) -> wire.RowAnswer:
        """The answer to one request, of which the frames before `first` are left out."""
        row = wire.row_of(request, first)
        call = wire.Call(id=1, fingerprint=ready.facts.fingerprint, deadline_s=1e9, most_rows=1, rows=(row,))
        await self.send(call)
        reply = await self.receive()
        assert isinstance(reply, wire.Reply)
        assert len(reply.times) == 1
        return reply.rows[0]


@contextlib.asynccontextmanager
async def gateway(build: Build = hosted_engines.build) -> AsyncIterator[Gateway]:
    """A gateway that leaves at the end."""
    found = Gateway(build)
    try:
        yield found
    finally:
        found.socket.close()
        await found.ended()


async def test_the_engine_behind_the_connection_is_that_of_this_process(
    here: Hosted, recordings: dict[str, Recording]
) -> None:
    """
    Real weights on real speech: a growing window, of which new audio alone is sent, has the same text.

    Those times at which the engine encodes all of it again are among the steps.
    """
    parts = [log_mel(recordings[name]) for name in ("dev-LJ002-0020", "dev-cv-22058266")]
    window = torch.cat(parts, dim=1).half().float()  # as it crosses
    async with gateway(build) as other:
        await other.send(BEGIN)
        ready = await other.receive()
        assert isinstance(ready, wire.Ready)
        n_sent = 0
        for n_frames in range(120, window.shape[1], 60):
            asked = request(window[:, :n_frames], window_start=0)
            answer = await other.ask(ready, asked, n_sent)
            [expected] = here.host._engine.step([asked])
            assert answer.result == expected
            assert isinstance(answer.result, StepResult)
            n_sent = n_frames

    assert (ready.facts.name, ready.facts.n_mels, ready.facts.n_languages) == ("tiny.en", 80, 99)
    assert ready.nice == os.nice(0)
    assert await other.ended() == 0


async def test_a_second_pass_is_that_of_this_process(here: Hosted, recordings: dict[str, Recording]) -> None:
    """With the model of the steps, which the engine names among its models for them."""
    window = log_mel(recordings["dev-LJ002-0020"]).half().float()  # as it crosses
    asked = request(window, SESSION)
    [expected], _ = await here.host.revisions._thread.results("tiny.en", [asked])
    async with gateway(build) as other:
        await other.send(BEGIN)
        ready = await other.receive()
        assert isinstance(ready, wire.Ready)
        assert [(each.name, each.base_tokens) for each in ready.revisers] == [("tiny.en", ready.facts.base_tokens)]
        row = wire.row_of(asked, 0)
        fields = {"fingerprint": ready.facts.fingerprint, "deadline_s": 1e9, "most_rows": 1}
        await other.send(wire.Call(id=1, rows=(row,), reviser="tiny.en", **fields))
        reply = await other.receive()

    assert isinstance(reply, wire.Reply)
    assert reply.rows[0].result == expected
    assert reply.work_s > 0


def fingerprint(**fields: str) -> str:
    """Of an engine whose model is another one in these fields."""
    model = msgspec.structs.replace(BEGIN.config.model, threads=1, **fields)
    config = msgspec.structs.replace(BEGIN.config, model=model)
    return engine_process._facts(config, build_engines(config, CollectorRegistry()), random_weights=False).fingerprint


def test_the_fingerprint_tells_weights_and_arithmetic_apart(here: Hosted) -> None:
    """Engines with the same one are interchangeable."""
    same = here.ready.facts.fingerprint

    assert fingerprint() == same
    assert len({same, fingerprint(dtype="bfloat16"), fingerprint(name="base")}) == 3


def test_costs_are_measured_where_that_is_asked_for(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """A start after a loss is quick: the gateway knows what a step costs."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    measured = build(msgspec.structs.replace(BEGIN, measures=True)).ready

    assert 0 < measured.row_s < 1
    assert set(measured.costs_key) == {"machine", "model", "engine", "options", "dtype", "encoder", "version"}
    limits = LoadLimits(min_interval_s=0.3, max_interval_s=1.0)
    assert LoadMeter(limits, measured.facts.max_batch, StepCosts(measured.fixed_s, measured.row_s)).capacity >= 1


async def test_a_failed_start_is_told_with_its_class() -> None:
    """So that the daemon says the same as if the engine were in its process."""

    def failing(_: wire.Begin) -> Hosted:
        raise CheckpointError("model.pt is damaged")

    async with gateway(failing) as other:
        await other.send(BEGIN)
        assert await other.receive() == wire.Failed(kind="CheckpointError", message="model.pt is damaged")
        assert await other.ended() == 1


async def test_a_lost_device_ends_the_process() -> None:
    """A new process gets a new context on the device."""

    def losing(begin: wire.Begin) -> Hosted:
        hosted = hosted_engines.build(begin)

        def lose(_: object) -> None:
            raise DeviceLostError("the device does not work")

        hosted.host._engine.on_step = lose  # type: ignore[attr-defined]
        return hosted

    async with gateway(losing) as other:
        await other.send(BEGIN)
        ready = await other.receive()
        assert isinstance(ready, wire.Ready)
        row = wire.row_of(request(torch.full((5, 60), 0.1)), 0)
        await other.send(wire.Call(id=1, fingerprint=ready.facts.fingerprint, deadline_s=1e9, most_rows=1, rows=(row,)))

        assert await other.ended() == 1


@pytest.mark.parametrize("first", [wire.Ping(), msgspec.structs.replace(BEGIN, version=99)])
async def test_a_gateway_that_does_not_begin(first: wire.Message) -> None:
    """Or is of another version: the process ends."""
    async with gateway() as other:
        await other.send(first)
        assert await other.ended() == 1


async def test_a_gateway_that_leaves_before_it_begins() -> None:
    """Nothing is left of it."""
    async with gateway() as other:
        other.socket.close()
        assert await other.ended() == 1


async def test_nonsense_from_a_gateway_ends_the_process() -> None:
    """What is no message is an error, not a reason to guess."""
    async with gateway() as other:
        await other.send(BEGIN)
        await other.receive()
        await asyncio.get_running_loop().sock_sendall(other.socket, wire.LENGTH.pack(3) + b"abc")
        assert await other.ended() == 1
