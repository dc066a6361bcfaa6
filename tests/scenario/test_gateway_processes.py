"""Several gateway processes of one daemon: no word is lost while one is killed and all are replaced."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pty
import re
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import websockets
from websockets.typing import Subprotocol

from streamer.client import Bye, Event, Start, TurnEnd, connect
from streamer.gateways.parent import REPLACE
from tests.helpers.daemon_process import CHUNK, DaemonProcess, daemon_process
from tests.helpers.scripted_engine import spoken, story
from tests.helpers.waiting import until

COMMAND = (sys.executable, "-m", "tests.helpers.scripted_gateways", "serve")
N_CLIENTS = 4
N_GATEWAYS = 2
VARIABLES = {"STREAMER_SERVER_PROCESSES": str(N_GATEWAYS), "STREAMER_ENGINES_WHERE": "processes"}
N_WORDS = 20
"""Of a sentence."""


def gateways(daemon: DaemonProcess) -> list[psutil.Process]:
    """The gateway processes of now."""
    children = psutil.Process(daemon.process.pid).children()
    return [child for child in children if "tests.helpers.scripted_gateways" in child.cmdline()]


async def until_count(daemon: DaemonProcess, metric: str, value: float) -> None:
    """Wait until a metric without labels has reached a value."""
    while True:
        await asyncio.sleep(0.2)
        try:
            page = (await daemon.get("/metrics")).text
        except httpx.TransportError:  # the gateway that had accepted it is gone
            continue
        found = re.search(rf"^{metric} (\S+)$", page, re.MULTILINE)
        if found and float(found[1]) >= value:
            return


class Speaker:
    """
    Says sentences in real time until it is told to stop, with the client of this project.

    Args:
        daemon: Hears them.
        seed: Of the words.
    """

    def __init__(self, daemon: DaemonProcess, seed: int) -> None:
        self._daemon, self._seed = daemon, seed
        self.said = list[str]()
        self.stop = asyncio.Event()

    async def run(self) -> list[Event]:
        """Everything that it is told, up to the end."""
        start = Start(language="en", endpoint_ms=500)
        async with connect(self._daemon.url("", "ws"), start) as captions:
            return [event async for event in captions.transcribe(self._blocks())]

    async def _blocks(self) -> AsyncIterator[bytes]:
        while not self.stop.is_set():
            self.said.append(story(N_WORDS, seed=1000 * self._seed + len(self.said)))
            pcm = (spoken(self.said[-1], 0.9) * 32767).astype("<i2")
            for at in range(0, len(pcm), CHUNK):
                yield pcm[at : at + CHUNK].tobytes()
                await asyncio.sleep(0.1)


async def test_no_word_is_lost_with_a_gateway(tmp_path: Path) -> None:
    """SIGKILL of one in mid-speech, then SIGUSR1 of their parent: every client has the whole text, and no error."""
    async with asyncio.timeout(300), daemon_process(tmp_path, COMMAND, **VARIABLES) as daemon:
        before = gateways(daemon)
        assert len(before) == N_GATEWAYS
        speakers = [Speaker(daemon, seed) for seed in range(N_CLIENTS)]
        speaking = [asyncio.create_task(speaker.run()) for speaker in speakers]
        await asyncio.sleep(2.0)
        before[0].send_signal(signal.SIGKILL)
        await until_count(daemon, "streamer_gateway_restarts_total", 1)
        daemon.process.send_signal(REPLACE)
        await until_count(daemon, "streamer_gateways_replaced_total", N_GATEWAYS)
        # the last one hands its clients over before it ends
        await until(lambda: not any(psutil.pid_exists(gateway.pid) for gateway in before), 120.0)
        for speaker in speakers:
            speaker.stop.set()
        heard = await asyncio.gather(*speaking)
        children = psutil.Process(daemon.process.pid).children()
        daemon.terminate()
        assert await daemon.exit_code() == 0

    for speaker, events in zip(speakers, heard, strict=True):
        turns = [event for event in events if isinstance(event, TurnEnd)]
        assert [turn.turn for turn in turns] == list(range(len(turns)))
        # what a lost gateway had shown and not said to its end may be a turn without text
        assert " ".join(turn.text for turn in turns if turn.text) == " ".join(speaker.said)
        assert isinstance(events[-1], Bye)
    assert not any(child.is_running() for child in children), "a process outlived its daemon"


@contextlib.contextmanager
def stopped(gateway: psutil.Process) -> Iterator[None]:
    """A gateway that notices nothing for the length of a block."""
    gateway.suspend()
    try:
        yield
    finally:
        gateway.resume()


class RoomSpeaker:
    """
    A client that speaks in a room, and keeps its connections open.

    Args:
        daemon: It is told.
        held: Closes the connections.
    """

    def __init__(self, daemon: DaemonProcess, held: contextlib.AsyncExitStack) -> None:
        self._daemon, self._held = daemon, held

    async def connect(self, resume: dict[str, Any] | None = None) -> tuple[psutil.Process, dict[str, Any]]:
        """The gateway that it came to, and what it is told of its start."""
        address = self._daemon.url("/v1/captions?room=hall", "ws")
        socket = await self._held.enter_async_context(
            websockets.connect(address, subprotocols=[Subprotocol("captions.v1")], proxy=None, close_timeout=1)
        )
        await socket.recv()
        port = socket.local_address[1]
        [mine] = [each for each in gateways(self._daemon) if port in remote_ports(each)]
        start = {"type": "start", "language": "en", **({"resume": resume} if resume else {})}
        await socket.send(json.dumps(start))
        return mine, json.loads(await socket.recv())


def remote_ports(process: psutil.Process) -> set[int]:
    """Ports of the clients of a process."""
    return {each.raddr.port for each in process.net_connections("tcp") if each.raddr}


async def test_a_speaker_gets_its_room_back_at_whatever_gateway(tmp_path: Path) -> None:
    """Neither gateway has noticed that its connection is lost, and of the second session the client was not told."""
    variables = {**VARIABLES, "STREAMER_SERVER_ROOMS": "true"}
    async with (
        asyncio.timeout(120),
        daemon_process(tmp_path, COMMAND, **variables) as daemon,
        contextlib.AsyncExitStack() as held,
    ):
        speaker = RoomSpeaker(daemon, held)
        first, told = await speaker.connect()
        resume = {"session": told["session"], "token": told["resume"], "stable_s": 0.0, "context": ""}
        with stopped(first):
            second, elsewhere = await speaker.connect(resume)
        with stopped(second):
            third, back = await speaker.connect(resume)

    assert (third, [each["type"] for each in (told, elsewhere, back)]) == (first, 3 * ["started"])
    assert len({each["session"] for each in (told, elsewhere, back)}) == 3


async def test_gateways_and_engines_end_with_their_parent(tmp_path: Path) -> None:
    """When it is killed, so that nobody is left on its port."""
    async with daemon_process(tmp_path, COMMAND, **VARIABLES) as daemon:
        children = psutil.Process(daemon.process.pid).children()
        assert len(children) == N_GATEWAYS + 1
        daemon.process.kill()
        await daemon.exit_code()
        _, alive = await asyncio.to_thread(psutil.wait_procs, children, 60)

    assert alive == []


async def test_a_terminal_that_is_closed_ends_its_gateways(tmp_path: Path) -> None:
    """SIGHUP says that its window is gone, to several processes as to one; elsewhere it means to read files again."""
    window, terminal = pty.openpty()
    try:
        async with daemon_process(tmp_path, COMMAND, stdin=terminal, **VARIABLES) as daemon:
            daemon.process.send_signal(signal.SIGHUP)
            assert await daemon.exit_code() == 0
    finally:
        os.close(window)
        os.close(terminal)
    assert "reloaded" not in (tmp_path / "daemon.log").read_text()
