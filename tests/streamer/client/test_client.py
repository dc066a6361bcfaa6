"""Tests of streamer/client/client.py against a server with scripted sessions, over loopback."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import jiwer
import numpy as np
import pytest
from websockets.asyncio.server import ServerConnection, serve

from streamer.access.keys import Keys
from streamer.client import (
    AudioFormat,
    Bye,
    Caption,
    ConnectionLostError,
    Event,
    Flushed,
    Start,
    TurnEnd,
    connect,
)
from streamer.client.client import captions_url
from streamer.config import Config, ServerConfig
from streamer.errors import EngineError, OverloadError, ProtocolError
from streamer.protocol.options import SessionOptions, Update
from tests.helpers.fake_scheduler import FakeScheduler, FakeStream, script_of
from tests.helpers.fault_proxy import fault_proxy
from tests.helpers.http_daemon import SECOND, Daemon, serving, within
from tests.helpers.scripted_engine import ScriptedService, spoken, story
from tests.helpers.scripted_engine import serving as sessions
from tests.helpers.talks import broken_promises
from tests.helpers.waiting import is_waiting

TURNS = ["so the first thing", "and the second one"]


@pytest.fixture
async def daemon() -> AsyncIterator[Daemon]:
    """A server whose sessions say two turns."""
    async with serving(scheduler=FakeScheduler(script_of(TURNS))) as running:
        yield running


def seconds(n: int) -> Iterator[bytes]:
    """Blocks of audio."""
    return (SECOND for _ in range(n))


def texts(events: list[Event]) -> list[str]:
    """Of the turns, each where its number says."""
    turns = [event for event in events if isinstance(event, TurnEnd)]
    assert [turn.turn for turn in turns] == list(range(len(turns)))
    return [turn.text for turn in turns]


def test_the_client_needs_no_torch() -> None:
    """Programs that only send audio do not load the network."""
    code = "import sys; sys.modules['torch'] = None; import streamer.client"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)


async def test_a_whole_session_ends_with_bye(daemon: Daemon) -> None:
    """Send, iterate, and be done."""
    async with connect(daemon.url("", "ws"), Start(language="en")) as captions:
        events = [event async for event in captions.transcribe(seconds(5))]
    assert texts(events) == TURNS
    assert isinstance(events[-1], Bye)
    assert any(isinstance(event, Caption) for event in events)
    assert daemon.scheduler.streams[0].options.language == "en"


async def test_arrays_are_sent_as_their_bytes(daemon: Daemon) -> None:
    """An array of samples is its bytes; a source may be asynchronous."""

    async def source() -> AsyncIterator[np.ndarray[tuple[int], np.dtype[np.float32]]]:
        for _ in range(10):
            yield np.full(4800, 0.25, "<f4")

    start = Start(audio=AudioFormat(encoding="pcm_f32le", rate=48000))
    async with connect(daemon.url("/v1/captions", "ws"), start) as captions:
        events = [event async for event in captions.transcribe(source())]
    assert events[-1] == Bye(reason="end", audio_s=1.0, turns=len(texts(events)))


async def test_a_source_that_blocks_is_sent_meanwhile(daemon: Daemon) -> None:
    """As one that reads a pipe: what it has given is on its way before its last block is there."""
    fed_s = 0.0

    def source() -> Iterator[bytes]:
        nonlocal fed_s
        for _ in range(1000):
            yield SECOND[:640]
        fed_s = daemon.scheduler.streams[0].received_s

    async with connect(daemon.url("", "ws")) as captions:
        await within(_all(captions.transcribe(source())))
    assert 0.0 < fed_s <= 20.0


async def test_flush_is_answered_and_update_reaches_the_session(daemon: Daemon) -> None:
    """Commands reach the session, and a flush its answer."""
    async with connect(daemon.url("", "ws")) as captions:
        await captions.send(SECOND)
        await captions.update(keyterms=("Ray Serve",), endpoint_ms=700)
        await captions.flush(7)
        async for event in captions:
            if event == Flushed(id=7):
                break
    assert daemon.scheduler.streams[0].updates == [Update(keyterms=("Ray Serve",), endpoint_ms=700)]


@pytest.mark.parametrize("seed", range(6))
async def test_cut_connections_are_not_noticed(seed: int) -> None:
    """Cut anywhere, also in the middle of a message: every word is there once, every turn once, and one session."""
    random = np.random.default_rng(seed)
    text = story(60, seed)
    cuts = [int(n) for n in random.integers(2_000, 200_000, 4)]
    async with speaking() as (service, daemon), fault_proxy(daemon.port, cuts) as proxy:
        async with connect(proxy.url, Start(language="en")) as captions:
            events = [event async for event in captions.transcribe(blocks_of(text, random))]
        assert proxy.n_connections > 1
        assert service.count("streamer_sessions_opened_total") == 1
    assert broken_promises(events) == []
    assert " ".join(texts(events)).split() == text.split()


@pytest.mark.parametrize("seed", range(6))
async def test_a_restart_costs_at_most_the_word_it_cuts(seed: int) -> None:
    """Another daemon that knows nothing goes on from what the client holds: turns are numbered on, text goes on."""
    random = np.random.default_rng(seed)
    text = story(60, seed)
    async with speaking() as (_, first), speaking() as (second, other), fault_proxy(first.port) as proxy:
        async with connect(proxy.url, Start(language="en")) as captions:
            events = []
            move_at = int(random.integers(2, 60))
            async for event in captions.transcribe(blocks_of(text, random)):
                events.append(event)
                if len(events) == move_at:
                    proxy.target_port = other.port
                    proxy.cut()
        assert second.count("streamer_sessions_opened_total") in (0, 1)
    assert broken_promises(events) == []
    assert distance(" ".join(texts(events)).split(), text.split()) <= 1, texts(events)


@asynccontextmanager
async def speaking() -> AsyncIterator[tuple[ScriptedService, Daemon]]:
    """A daemon whose sessions understand every word of `spoken`."""
    async with sessions(resume_s=60.0) as service, serving(scheduler=service.scheduler) as daemon:
        yield service, daemon


def blocks_of(text: str, random: np.random.Generator) -> Iterator[bytes]:
    """The words, with pauses that are long enough for a window of their own after them, in blocks of any length."""
    parts = [spoken(" ".join(part), 3.5) for part in np.array_split(text.split(), 4)]
    pcm = (np.concatenate(parts) * 32767).astype("<i2")
    while len(pcm):
        n = int(random.integers(1, 8000))
        yield pcm[:n].tobytes()
        pcm = pcm[n:]


def distance(a: list[str], b: list[str]) -> int:
    """Words to insert, drop or change."""
    return round(jiwer.wer(" ".join(b), " ".join(a)) * len(b))


async def test_the_client_leaves_a_draining_daemon() -> None:
    """Its goodbye is not the end: what it heard is made final there, the rest is said by the next daemon."""
    text, drained = story(60), asyncio.Event()

    async def source() -> AsyncIterator[bytes]:
        for n, block in enumerate(blocks_of(text, np.random.default_rng(0))):
            if n == 50:
                await drained.wait()
            yield block

    async with speaking() as (first, old), speaking() as (second, new), fault_proxy(old.port) as proxy:
        async with connect(proxy.url, Start(language="en")) as captions:
            events = []
            async for event in captions.transcribe(source()):
                events.append(event)
                if isinstance(event, Caption) and not drained.is_set():
                    drained.set()
                    proxy.target_port = new.port
                    await old.connections.announce_drain(5.0)
                    await first.scheduler.drain(5.0)
        assert second.count("streamer_sessions_opened_total") == 1
    assert broken_promises(events) == []
    assert isinstance(events[-1], Bye)
    assert distance(" ".join(texts(events)).split(), text.split()) <= 1, texts(events)


async def test_an_address_without_daemon_raises() -> None:
    """The first connection is tried once, and the message says where."""
    async with fault_proxy(1) as proxy:
        with pytest.raises(ConnectionLostError, match=f"127.0.0.1:{proxy.port}"):
            async with connect(proxy.url):
                pass


async def test_another_program_at_the_address_is_told() -> None:
    """One that speaks WebSocket, and nothing of this protocol."""

    async def greet(socket: ServerConnection) -> None:
        await socket.send("welcome")
        await socket.wait_closed()

    async with serve(greet, "127.0.0.1", 0) as other:
        port = next(iter(other.sockets)).getsockname()[1]
        with pytest.raises(ConnectionLostError, match="check the address"):
            async with connect(f"ws://127.0.0.1:{port}"):
                pass


async def test_a_daemon_that_stays_away_is_given_up(daemon: Daemon) -> None:
    """After a while without any way to go on, sender and reader are told."""
    async with fault_proxy(daemon.port) as proxy, connect(proxy.url, give_up_s=0.3) as captions:
        proxy.target_port = 1
        proxy.cut()
        with pytest.raises(ConnectionLostError, match=r"no progress for 0\.3 s: .*; check the address"):
            await within(_all(captions.transcribe(seconds(1))))
        with pytest.raises(ConnectionLostError):
            await captions.send(SECOND)


async def _all(events: AsyncIterator[Event]) -> list[Event]:
    return [event async for event in events]


async def test_refused_options_raise(daemon: Daemon) -> None:
    """The daemon's own words, and no second try."""
    with pytest.raises(ProtocolError, match="language") as refused:
        async with connect(daemon.url("", "ws"), Start(language="xx")):
            pass
    assert refused.value.code == "bad_value"


async def test_a_wrong_key_raises(tmp_path: Path) -> None:
    """The daemon says so by HTTP, before there is a WebSocket: it is no lost connection."""
    (tmp_path / "keys").write_text("laptop 0123456789abcdef0123\n")
    async with serving(keys=Keys(tmp_path / "keys")) as daemon:
        with pytest.raises(ProtocolError, match="not known here") as refused:
            async with connect(daemon.url("", "ws"), key="wrong-key-wrong-key"):
                pass
    assert refused.value.code == "unauthorized"


async def test_a_full_daemon_raises() -> None:
    """It is told at once, with the time after which to try again."""
    async with serving(scheduler=FakeScheduler(max_sessions=0)) as daemon:
        with pytest.raises(OverloadError) as refused:
            async with connect(daemon.url("", "ws")):
                pass
    assert refused.value.retry_after_s == 5.0


async def test_a_full_daemon_is_named_when_it_is_given_up(daemon: Daemon) -> None:
    """Whoever waited for a place after a lost connection is not told that the daemon is gone."""

    class Full(FakeScheduler):
        async def begin(self, options: SessionOptions, **fields: Any) -> FakeStream:
            raise OverloadError("no free place", retry_after_s=0.1)

    async with (
        serving(scheduler=Full()) as full,
        fault_proxy(daemon.port) as proxy,
        connect(proxy.url, give_up_s=0.3) as captions,
    ):
        proxy.target_port = full.port
        proxy.cut()
        with pytest.raises(ConnectionLostError, match=r"no progress for 0\.3 s: no free place"):
            await within(_all(captions.transcribe(seconds(1))))


async def test_a_taken_room_raises() -> None:
    """With its code, and no second try: another name is needed."""
    async with serving(Config(server=ServerConfig(port=0, rooms=True))) as daemon:
        url = f"{daemon.url('', 'ws')}?room=stage"
        async with connect(url):
            with pytest.raises(ProtocolError, match="another session speaks") as refused:
                async with connect(url):
                    pass
    assert refused.value.code == "room_taken"


async def test_a_failed_session_is_resumed(daemon: Daemon) -> None:
    """A fault of the daemon costs a connection, not the words."""
    async with connect(daemon.url("", "ws")) as captions:
        await captions.send(SECOND)
        stream = await within(daemon.scheduler.wait_stream())
        await within(stream.fed.wait())
        stream.say(EngineError("broken"))
        events = [event async for event in captions.transcribe(seconds(4))]
    assert len(daemon.scheduler.streams) == 2 or stream.received_s == 5.0
    assert isinstance(events[-1], Bye)


async def test_idleness_raises_after_the_last_events() -> None:
    """The daemon's reason is raised, after the last events were told."""
    config = Config(server=ServerConfig(port=0, idle_s=1.0))
    events = []
    async with serving(config, FakeScheduler(script_of(TURNS))) as daemon, connect(daemon.url("", "ws")) as captions:
        with pytest.raises(ProtocolError) as ended:  # noqa: PT012 - what came before it counts
            async for event in captions:
                events.append(event)  # noqa: PERF401
    assert ended.value.code == "idle"
    assert texts(events) == TURNS


async def test_an_error_of_the_source_is_raised_to_the_reader(daemon: Daemon) -> None:
    """Its error reaches whoever iterates."""

    def broken() -> Iterator[bytes]:
        yield SECOND
        raise OSError("no such device")

    async with connect(daemon.url("", "ws")) as captions:
        with pytest.raises(OSError, match="no such device"):
            await within(_all(captions.transcribe(broken())))


async def test_misuse_raises(daemon: Daemon) -> None:
    """Part of a sample, audio after the end, a number: each is named, and none is sent."""
    async with connect(daemon.url("", "ws")) as captions:
        with pytest.raises(ValueError, match="3 bytes"):
            await captions.send(b"abc")
        with pytest.raises(TypeError):
            await captions.send(5)
        await captions.end()
        with pytest.raises(ValueError, match="after end"):
            await captions.send(SECOND)
        assert isinstance((await within(_all(aiter(captions))))[-1], Bye)


async def test_send_waits_while_nothing_can_be_sent(daemon: Daemon) -> None:
    """A slow daemon slows its sender down; memory stays bounded."""
    async with connect(daemon.url("", "ws"), max_kept_s=2.0) as captions:
        stream = await within(daemon.scheduler.wait_stream())
        stream.room.clear()

        async def send() -> None:
            for _ in range(400):
                await captions.send(SECOND)

        sending = asyncio.create_task(send())
        assert await is_waiting(sending)
        stream.room.set()
        await within(sending)
        await captions.end()
        assert (await within(_all(aiter(captions))))[-1].audio_s == 400.0


@pytest.mark.parametrize(
    ("url", "complete"),
    [
        ("ws://127.0.0.1:8000", "ws://127.0.0.1:8000/v1/captions"),
        ("ws://127.0.0.1:8000/", "ws://127.0.0.1:8000/v1/captions"),
        ("wss://example.org/captions", "wss://example.org/captions/v1/captions"),
        ("wss://example.org/captions/", "wss://example.org/captions/v1/captions"),
        ("wss://example.org/a/v1/captions", "wss://example.org/a/v1/captions"),
        ("ws://127.0.0.1:8000?room=stage", "ws://127.0.0.1:8000/v1/captions?room=stage"),
        ("wss://example.org/a/v1/captions/?room=stage", "wss://example.org/a/v1/captions?room=stage"),
    ],
)
def test_an_address_is_completed(url: str, complete: str) -> None:
    """The daemon may be under a path, and the address may have a query."""
    assert captions_url(url) == complete
