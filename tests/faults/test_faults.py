"""
What fails around a session, and what of it is lost: nothing, and nobody beside it notices.

The engine understands a made-up language exactly, so one lost, doubled or changed word shows.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import numpy as np
import pytest
from websockets.asyncio.client import connect as connect_socket
from websockets.exceptions import WebSocketException

from streamer.client import Event, Start, TurnEnd, connect
from streamer.config import LimitsConfig
from tests.helpers import http_daemon, scripted_engine
from tests.helpers.daemon_process import daemon_process
from tests.helpers.fault_proxy import fault_proxy
from tests.helpers.http_daemon import CONFIG
from tests.helpers.ports import reserved_port
from tests.helpers.resuming import CHUNK, ResumingClient
from tests.helpers.scripted_engine import spoken, story
from tests.helpers.waiting import until
from tests.streamer.engine.test_recovery import Device

SCRIPTED = (sys.executable, "-m", "tests.helpers.scripted_daemon", "serve")
N_CUTS = 40


def captions(port: int) -> str:
    """Address of the native protocol."""
    return f"ws://127.0.0.1:{port}/v1/captions"


def client_of(port: int, n_turns: int, seed: int, pace: float = 0.0) -> tuple[ResumingClient, str]:
    """
    Somebody who says a story of several turns, 12 words and a pause of 3.5 s each, and the story.

    No window rolls in a turn so short, and none goes on over such a pause: windows that begin in the middle of a word
    are nothing for an engine that says whatever it sees.
    """
    parts = [story(12, seed + turn) for turn in range(n_turns)]
    sound = np.concatenate([spoken(part, pause_s=3.5) for part in parts])
    return ResumingClient(lambda: captions(port), sound, pace=pace, retry_s=0.02), " ".join(parts)


# --- the network


async def test_connections_that_are_cut() -> None:
    """Again and again, anywhere in the stream; a session that is not cut beside it."""
    random_ = random.Random(7)
    async with (
        scripted_engine.serving(resume_s=60) as service,
        http_daemon.serving(CONFIG, service.scheduler) as daemon,
        fault_proxy(daemon.port) as proxy,
    ):
        proxy.cut_after = [random_.randrange(500, 60_000) for _ in range(N_CUTS)]
        cut, said = client_of(proxy.port, 10, seed=1)
        steady, also_said = client_of(daemon.port, 4, seed=2)
        async with asyncio.timeout(120):
            await asyncio.gather(cut.run(), steady.run())

    assert cut.text == said
    assert (steady.text, steady.n_connections) == (also_said, 1)
    assert proxy.n_cuts >= N_CUTS // 2
    assert cut.n_connections == proxy.n_cuts + 1


async def test_connections_too_short_for_any_text_to_come_back() -> None:
    """The client does not give up as long as each of them brings the daemon more sound."""
    text = story(20)
    sound = (np.clip(spoken(text, pause_s=1.0), -1, 1) * 32767).astype("<i2").tobytes()
    async with (
        scripted_engine.serving(resume_s=60) as service,
        http_daemon.serving(CONFIG, service.scheduler) as daemon,
        fault_proxy(daemon.port) as proxy,
    ):
        service.engine.hold()
        async with connect(proxy.url, Start(language="en"), give_up_s=1.0) as captions:
            hearing = asyncio.create_task(turns_of(captions.transcribe(paced(sound, 0.1))))
            [session] = service.worker.streams.values()
            for n in range(12):
                await until(lambda n=n: proxy.n_connections > n)
                heard_s = session.received_s
                await until(lambda heard_s=heard_s: session.received_s > heard_s)
                proxy.cut()
            service.engine.release()
            turns = await hearing

    assert " ".join(turns) == text
    assert proxy.n_cuts == 12


async def paced(pcm: bytes, pause_s: float) -> AsyncIterator[bytes]:
    """Tenths of a second of sound."""
    for at in range(0, len(pcm), 2 * CHUNK):
        yield pcm[at : at + 2 * CHUNK]
        await asyncio.sleep(pause_s)


async def turns_of(events: AsyncIterator[Event]) -> list[str]:
    """Texts of the turns that end."""
    return [event.text async for event in events if isinstance(event, TurnEnd)]


async def test_a_network_that_stands_still() -> None:
    """No byte for longer than a send may take: the old connection is found dead, and the client resumes."""
    config = msgspec.structs.replace(CONFIG, limits=LimitsConfig(send_timeout_s=0.3))
    async with (
        scripted_engine.serving(resume_s=60) as service,
        http_daemon.serving(config, service.scheduler) as daemon,
        fault_proxy(daemon.port) as proxy,
    ):
        client, said = client_of(proxy.port, 6, seed=3, pace=20.0)
        running = asyncio.create_task(client.run())
        for _ in range(3):
            await asyncio.sleep(0.2)
            proxy.flows.clear()
            await asyncio.sleep(0.4)
            proxy.flows.set()
        async with asyncio.timeout(120):
            await running

    assert client.text == said


# --- the clock and the device


async def test_a_clock_that_jumps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wall time goes back and forth by years: captions follow the sound alone."""
    true_time = time.time
    jumps = random.Random(0)
    monkeypatch.setattr(time, "time", lambda: true_time() + jumps.uniform(-1e8, 1e8))
    async with (
        scripted_engine.serving() as service,
        http_daemon.serving(CONFIG, service.scheduler) as daemon,
    ):
        client, said = client_of(daemon.port, 5, seed=4)
        async with asyncio.timeout(120):
            await client.run()

    assert (client.text, client.n_connections) == (said, 1)


async def test_a_device_that_fails_now_and_then() -> None:
    """Several clients; the engine is built again under them, and none sees more than a late caption."""
    device = Device()
    async with (
        scripted_engine.serving(engine=device.engine) as service,
        http_daemon.serving(CONFIG, service.scheduler) as daemon,
    ):
        clients = [client_of(daemon.port, 4, seed=seed) for seed in range(4)]
        running = [asyncio.create_task(client.run()) for client, _ in clients]
        n_failures = 0
        while not all(task.done() for task in running):
            if (device.n_restarts or 0) == n_failures:  # not while an engine is rebuilt: attempts are limited
                device.n_steps_fail, n_failures = 2, n_failures + 1
            await asyncio.wait(running, timeout=0.05)

    assert [client.text for client, _ in clients] == [said for _, said in clients]
    assert {client.n_connections for client, _ in clients} == {1}
    assert (device.n_restarts or 0) >= 1


# --- the process


async def test_a_process_that_is_killed_and_stopped(tmp_path: Path) -> None:
    """SIGKILL, then SIGTERM, each in the middle of a sentence: the next process goes on where the client is."""
    with reserved_port() as port:
        client, said = client_of(port, 5, seed=5, pace=8.0)
        running = asyncio.create_task(client.run())
        for end, n_words in ((signal.SIGKILL, 14), (signal.SIGTERM, 30)):  # each turn has twelve
            async with daemon_process(tmp_path, SCRIPTED, port=port) as daemon:
                await until(lambda n=n_words: len(client.text.split()) >= n or running.done())
                assert not running.done(), "the fault came too late"
                daemon.process.send_signal(end)
                assert await daemon.exit_code() == (-9 if end == signal.SIGKILL else 0)
        async with daemon_process(tmp_path, SCRIPTED, port=port), asyncio.timeout(120):
            await running

    assert client.text == said
    assert client.n_connections >= 3


async def test_an_audience_keeps_the_talk_over_a_killed_process(tmp_path: Path) -> None:
    """Who watches meanwhile and who comes late have all that was said, once; the speaker brings it back."""
    parts = [story(12, seed) for seed in range(5)]
    sound = np.concatenate([spoken(part, pause_s=3.5) for part in parts])
    pcm = (np.clip(sound, -1, 1) * 32767).astype("<i2").tobytes()
    rooms, seen = {"STREAMER_SERVER_ROOMS": "true"}, dict[int, str]()
    async with contextlib.AsyncExitStack() as stack, asyncio.timeout(300):
        port = stack.enter_context(reserved_port())
        first = await stack.enter_async_context(daemon_process(tmp_path, SCRIPTED, port=port, **rooms))
        watching = asyncio.create_task(watch(port, seen))
        captions = await stack.enter_async_context(connect(f"ws://127.0.0.1:{port}?room=stage", Start(language="en")))
        speaking = asyncio.create_task(turns_of(captions.transcribe(paced(pcm, 0.0125))))
        while len(seen) < 2:
            await asyncio.wait([speaking], timeout=0.05)
        first.process.kill()
        await first.exit_code()
        assert not speaking.done(), "the fault came too late"
        second = await stack.enter_async_context(daemon_process(tmp_path, SCRIPTED, port=port, **rooms))
        said = await speaking
        late = dict[int, str]()
        watching_late = asyncio.create_task(watch(port, late))
        while (len(seen) < len(said) or len(late) < len(said)) and not watching.done() and not watching_late.done():
            await asyncio.wait([watching, watching_late], timeout=0.05)
        watching.cancel()
        watching_late.cancel()
        second.terminate()

    assert " ".join(said) == " ".join(parts)
    assert [seen, late] == [dict(enumerate(said))] * 2


async def watch(port: int, seen: dict[int, str]) -> None:
    """Keep what a viewer shows who knows docs/protocol.md, and comes back when it is cut off."""
    while True:
        try:
            async with connect_socket(f"ws://127.0.0.1:{port}/v1/watch/stage", proxy=None) as socket:
                seen.clear()
                speaker = -1
                async for text in socket:
                    told = json.loads(text)
                    if told["type"] == "room" and told["speaker"] != speaker:
                        speaker = told["speaker"]
                        seen.clear()
                    elif told["type"] == "turn_end":
                        assert told["turn"] not in seen
                        seen[told["turn"]] = told["text"]
        except (OSError, WebSocketException):
            await asyncio.sleep(0.05)  # until the next process listens


async def test_a_process_that_stands_still_and_a_full_disk(tmp_path: Path) -> None:
    """SIGSTOP for a while, and a log that cannot be written: late, whole, on one connection, and a clean end."""
    async with daemon_process(tmp_path, SCRIPTED, log=Path("/dev/full")) as daemon:
        client, said = client_of(daemon.port, 4, seed=6, pace=10.0)
        running = asyncio.create_task(client.run())
        for _ in range(2):
            await asyncio.sleep(0.5)
            os.kill(daemon.process.pid, signal.SIGSTOP)
            await asyncio.sleep(0.7)
            os.kill(daemon.process.pid, signal.SIGCONT)
        async with asyncio.timeout(120):
            await running
        daemon.terminate()
        assert await daemon.exit_code() == 0

    assert (client.text, client.n_connections) == (said, 1)
