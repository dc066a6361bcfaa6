"""Tests of streamer/gateways/process.py: two gateways of one engine and one port, in this process, with exact text."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import msgspec
import pytest
import structlog.testing
import torch
from prometheus_client import CollectorRegistry
from websockets.asyncio.client import connect as connect_socket
from websockets.exceptions import WebSocketException

from streamer import gateway as gateway_module
from streamer.client import connect
from streamer.config import (
    Config,
    EnginesConfig,
    LimitsConfig,
    ModelConfig,
    SchedulerConfig,
    ServerConfig,
    WyomingConfig,
)
from streamer.engine_process import ready
from streamer.gateways import process, wire
from streamer.gateways.hub import Hub
from streamer.gateways.member import Member
from streamer.host.sockets import listen
from streamer.protocol.events import TurnEnd
from streamer.protocol.messages import Start
from streamer.protocol.options import SessionOptions
from streamer.remote.joined import Address
from streamer.scheduling.load import StepCosts
from tests.helpers.hosted_engines import FINGERPRINT, facts
from tests.helpers.scripted_engine import LoudnessFrontEnd, spoken, story
from tests.helpers.waiting import until, until_idle
from tests.streamer.remote.test_joined import on_a_thread

CONFIG = Config(
    model=ModelConfig(name=FINGERPRINT, device="cpu"),
    server=ServerConfig(processes=2, rooms=True, drain_s=5.0),
    scheduler=SchedulerConfig(max_sessions=4),
    limits=LimitsConfig(max_sessions_per_key=0),
    engines=EnginesConfig(where="processes"),
    session=SessionOptions(language="en", endpoint_ms=500),
)


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The front end of the scripted language; building sets the threads of this process: put them back."""
    monkeypatch.setattr(gateway_module, "FrontEnd", lambda *_: LoudnessFrontEnd())
    n = torch.get_num_threads()
    yield
    torch.set_num_threads(n)


class Daemon:
    """The parent of gateways that are tasks of this process."""

    def __init__(self, *engines: Address) -> None:
        self.hub = Hub(CONFIG, CollectorRegistry())
        self._listening, self._engines = listen("127.0.0.1", 0), engines
        self.port = int(self._listening.getsockname()[1])
        self.members = dict[int, Member]()
        self.ends = dict[int, asyncio.Task[int]]()
        self._serving = list[asyncio.Task[None]]()
        self._writers = list[asyncio.StreamWriter]()

    async def start(self, index: int, wyoming: socket.socket | None = None) -> None:
        """Start a gateway, also for clients of Wyoming on a listening socket, and wait until it serves."""
        ours, theirs = socket.socketpair()
        reader, writer = await asyncio.open_connection(sock=ours)
        self._writers.append(writer)
        member = self.members[index] = Member(str(index), writer)
        self._serving.append(asyncio.create_task(self.hub.serve(member, reader)))
        port = int(wyoming.getsockname()[1]) if wyoming else 0
        begin = wire.Begin(
            version=wire.VERSION,
            config=msgspec.structs.replace(CONFIG, wyoming=WyomingConfig(port=port)),
            index=index,
            ready=(ready(facts(), StepCosts(0.0, 0.001), {}, []),),
            engines=self._engines,
            sockets=(os.dup(self._listening.fileno()),),
            wyoming=os.dup(wyoming.fileno()) if wyoming else None,
        )
        member.send(begin)
        self.ends[index] = asyncio.create_task(process.serve(theirs))
        assert isinstance(await member.start, wire.Serving)

    async def stop(self, index: int, *, is_replaced: bool = False) -> None:
        """Let a gateway drain and end."""
        self.members[index].send(wire.Stop(is_replaced=is_replaced))
        assert await self.ends.pop(index) == 0

    async def kill(self, index: int) -> None:
        """End a gateway without a word; its connections break."""
        ending = self.ends.pop(index)
        ending.cancel()
        await asyncio.gather(ending, return_exceptions=True)

    async def close(self) -> None:
        """End all."""
        for index in list(self.ends):
            await self.stop(index)
        await asyncio.gather(*self._serving)
        for writer in self._writers:
            writer.close()
        self._listening.close()


@contextlib.asynccontextmanager
async def daemon(folder: Path, n: int = 2) -> AsyncIterator[Daemon]:
    """With so many gateways."""
    async with asyncio.timeout(300), on_a_thread(folder) as engine:
        found = Daemon(engine)
        try:
            for index in range(n):
                await found.start(index)
            yield found
        finally:
            await found.close()


async def speak(daemon: Daemon, text: str, *, room: str = "") -> list[TurnEnd]:
    """Say it four times as fast as speech with the client of this project, and read to the end."""

    async def blocks() -> AsyncIterator[bytes]:
        pcm = (spoken(text, 0.9) * 32767).astype("<i2")
        for at in range(0, len(pcm), 1600):
            yield pcm[at : at + 1600].tobytes()
            await asyncio.sleep(0.1 / 4)

    url = f"ws://127.0.0.1:{daemon.port}" + (f"/v1/captions?room={room}" if room else "")
    async with connect(url, Start()) as captions:
        return [event async for event in captions.transcribe(blocks()) if isinstance(event, TurnEnd)]


def text_of(turns: list[TurnEnd]) -> str:
    """Of all turns."""
    return " ".join(turn.text for turn in turns)


async def watch(daemon: Daemon, room: str, seen: dict[int, str]) -> None:
    """Keep the turns of a room, connecting again as the page does."""
    while True:
        with contextlib.suppress(OSError, WebSocketException):
            async with connect_socket(f"ws://127.0.0.1:{daemon.port}/v1/watch/{room}", proxy=None) as socket:
                async for said in socket:
                    message = json.loads(said)
                    if message["type"] == "room" and message["turns"]:
                        seen.clear()
                    elif message["type"] == "turn_end":
                        seen[message["turn"]] = message["text"]
        await asyncio.sleep(0.05)


async def test_no_word_is_lost_while_gateways_come_and_go(tmp_path: Path) -> None:
    """One dies, one is replaced: speakers and the viewers of a room come back to whichever is there."""
    said = [story(40, seed) for seed in range(4)]
    async with daemon(tmp_path) as found:
        seen = [dict[int, str]() for _ in range(4)]
        watching = [asyncio.create_task(watch(found, "hall", each)) for each in seen]
        rooms = ("hall", "", "", "")
        speaking = [asyncio.create_task(speak(found, text, room=room)) for text, room in zip(said, rooms, strict=True)]
        await asyncio.sleep(1.0)
        await found.kill(0)
        await found.start(2)
        await asyncio.sleep(0.5)
        await found.start(3)
        await found.stop(1, is_replaced=True)
        turns = await asyncio.gather(*speaking)
        await until(lambda: all(len(each) == len(turns[0]) for each in seen))
        for task in watching:
            task.cancel()
        await until(lambda: not found.hub.taken)

    assert list(map(text_of, turns)) == said
    assert [[turn.turn for turn in each] for each in turns] == [list(range(len(each))) for each in turns]
    assert [[each[turn] for turn in sorted(each)] for each in seen] == [[turn.text for turn in turns[0]]] * 4


async def test_who_comes_while_all_drain_is_answered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As by a daemon of one process: a balancer that waited for an answer would send nobody elsewhere."""
    monkeypatch.setattr(process, "GRACE_S", 2.0)
    async with daemon(tmp_path, n=1) as found:
        found.members[0].send(wire.Stop())
        await until_idle(100)
        reader, writer = await asyncio.open_connection("127.0.0.1", found.port)
        writer.write(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
        assert await reader.readline() == b"HTTP/1.1 200 OK\r\n"
        writer.close()
        assert await found.ends.pop(0) == 0


async def test_a_replaced_gateway_accepts_nobody_any_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On no port: whoever comes while its last clients speak on is for its successor."""
    monkeypatch.setattr(process, "GRACE_S", 2.0)
    with listen("127.0.0.1", 0) as listening:
        listening.setblocking(False)
        async with daemon(tmp_path, n=0) as found:
            await found.start(0, listening)
            found.members[0].send(wire.Stop(is_replaced=True))
            await until_idle(100)
            for _ in range(8):
                _, writer = await asyncio.open_connection(*listening.getsockname())
                accepted, _ = await asyncio.get_running_loop().sock_accept(listening)
                accepted.close()
                writer.close()
            assert await found.ends.pop(0) == 0


async def test_few_open_files_are_shared_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a daemon of one process: a gateway that has none left accepts nobody, however short his request is."""
    monkeypatch.setattr("streamer.daemon.http.allow_all_files", lambda: 512)
    with structlog.testing.capture_logs() as logs:
        async with daemon(tmp_path, n=1):
            pass
    assert [entry["allowed"] for entry in logs if entry["event"] == "few_open_files"] == [512]


async def test_a_gateway_that_cannot_start_says_why(tmp_path: Path) -> None:
    """Its parent tells the reason."""
    ours, theirs = socket.socketpair()
    reader, writer = await asyncio.open_connection(sock=ours)
    serving = asyncio.create_task(Hub(CONFIG, CollectorRegistry()).serve(member := Member("0", writer), reader))
    german = msgspec.structs.replace(CONFIG, session=SessionOptions(language="de"))
    engines = (ready(facts(), StepCosts(0.0, 0.001), {}, []),)
    member.send(wire.Begin(version=wire.VERSION, config=german, index=0, ready=engines, engines=(), sockets=()))
    assert await process.serve(theirs) == 1
    begun = await member.start
    assert isinstance(begun, wire.Failed)
    assert (begun.kind, "session.language" in begun.message) == ("ConfigError", True)
    await serving
    writer.close()


async def test_a_gateway_serves_while_an_engine_is_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It waits a moment for all of them, and says which one is missing."""
    monkeypatch.setattr(process, "ALL_READY_S", 0.1)
    async with asyncio.timeout(120), on_a_thread(tmp_path) as engine:
        found = Daemon(engine, Address(name="1", path=tmp_path / "1"))
        await found.start(0)
        overview, _ = await found.hub.state()
        await found.close()

    assert [(each.name, each.is_alive) for each in overview.statistics.engines] == [("0", True), ("1", False)]
