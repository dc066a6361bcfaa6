"""The daemon as users run it: a process of its own on loopback, with real weights."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import jiwer
import numpy as np
from numpy.typing import NDArray
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol
from whisper_normalizer.english import EnglishTextNormalizer

from tests.helpers.ports import reserved_port

ROOT = Path(__file__).parent.parent.parent
CHUNK = 1600
"""Samples of one message: 0.1 s."""
SERVE = (sys.executable, "-m", "streamer", "serve")
DEFAULTS = {"STREAMER_MODEL_NAME": "tiny.en", "STREAMER_MODEL_THREADS": "1", "STREAMER_SCHEDULER_MAX_SESSIONS": "8"}
"""Of a daemon in a test."""


def environment(**variables: str) -> dict[str, str]:
    """One thread, no proxy, and nothing of the caller's configuration."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("STREAMER_", "PYTHONPATH"))}
    return {**kept, "OMP_NUM_THREADS": "1", "NO_PROXY": "*"} | variables


def streamer(*arguments: object, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the command line to its end."""
    return subprocess.run(
        [sys.executable, "-m", "streamer", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=ROOT,
        env=environment(**variables),
        check=False,
    )


class DaemonProcess:
    """A running `streamer serve`."""

    def __init__(self, process: asyncio.subprocess.Process, port: int, log: Path, socket: Path | None = None) -> None:
        self.process, self.port, self.log, self._socket = process, port, log, socket

    def url(self, path: str, scheme: str = "http") -> str:
        """Address of a path."""
        return f"{scheme}://127.0.0.1:{self.port}{path}"

    async def get(self, path: str) -> httpx.Response:
        """An HTTP answer."""
        transport = httpx.AsyncHTTPTransport(uds=str(self._socket)) if self._socket else None
        async with httpx.AsyncClient(trust_env=False, transport=transport, timeout=60) as client:
            return await client.get(self.url(path))

    def connect(self) -> connect:
        """A client of captions.v1."""
        return connect(
            self.url("/v1/captions", "ws"),
            subprotocols=[Subprotocol("captions.v1")],
            compression=None,
            proxy=None,
            max_size=None,
            open_timeout=60,
        )

    def terminate(self) -> None:
        """As a service manager does."""
        self.process.send_signal(signal.SIGTERM)

    async def exit_code(self) -> int:
        """Once it has ended."""
        async with asyncio.timeout(120):
            return await self.process.wait()


@asynccontextmanager
async def daemon_process(
    folder: Path,
    command: Sequence[object] = SERVE,
    *,
    cwd: Path = ROOT,
    port: int = 0,
    log: Path | None = None,
    socket: Path | None = None,
    stdin: int | None = None,
    **variables: str,
) -> AsyncIterator[DaemonProcess]:
    """
    Run a daemon until it is ready, and end it with all its children.

    Args:
        folder: Gets its log, `daemon.log`.
        command: What starts it. Port, model and limits are set by variables, which are also those of its children.
        cwd: Where it is started.
        port: Its port; 0: a free one.
        log: File of its log instead of that in `folder`.
        socket: The Unix socket that it is told to listen on by a variable; None: a port.
        stdin: Descriptor of its standard input; None: that of this process.
        variables: Of its environment.
    """
    log = log or folder / "daemon.log"
    with reserved_port() as free:
        port = port or free
        variables = DEFAULTS | {"STREAMER_SERVER_PORT": str(port)} | variables
        with log.open("w") as out:
            process = await asyncio.create_subprocess_exec(
                *map(str, command),
                stdin=stdin,
                stdout=out,
                stderr=out,
                cwd=cwd,
                env=environment(**variables),
                start_new_session=True,
            )
        try:
            await _ready(daemon := DaemonProcess(process, port, log, socket))
            yield daemon
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()


async def _ready(daemon: DaemonProcess) -> None:
    """Ask until it says so: a process that starts has nothing else to tell it by."""
    async with asyncio.timeout(300):
        while True:
            if daemon.process.returncode is not None:
                raise AssertionError(f"the daemon ended: {daemon.log.read_text()}")
            try:
                if (await daemon.get("/readyz")).status_code == 200:
                    return
            except httpx.TransportError:
                pass
            await asyncio.sleep(0.1)


@dataclass
class Client:
    """One side of captions.v1 that keeps what it is told, and what of it breaks a promise."""

    socket: ClientConnection
    messages: list[dict[str, Any]] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    turns: dict[int, str] = field(default_factory=dict)
    _stable: dict[int, str] = field(default_factory=dict)
    _rev: dict[int, int] = field(default_factory=dict)

    async def start(self, **fields: Any) -> dict[str, Any]:
        """Start a session in English; `started`."""
        await self.say({"type": "start", "language": "en", **fields})
        return await self.until("started")

    async def say(self, message: dict[str, Any]) -> None:
        """Send a message."""
        await self.socket.send(json.dumps(message))

    async def send(self, samples: NDArray[np.float32], pace: float = 0.0) -> None:
        """Send 16 kHz samples in the default format, `pace` times as fast as they are spoken; 0: at once."""
        pcm = (np.clip(samples, -1, 1) * 32767).astype("<i2")
        for at in range(0, len(pcm), CHUNK):
            await self.socket.send(pcm[at : at + CHUNK].tobytes())
            if pace:
                await asyncio.sleep(0.1 / pace)

    async def receive(self) -> dict[str, Any]:
        """The next message, noted and checked."""
        async with asyncio.timeout(120):
            message: dict[str, Any] = json.loads(await self.socket.recv())
        self.messages.append(message)
        if message["type"] == "caption":
            self._check_caption(message)
        elif message["type"] == "turn_end":
            self._check_turn_end(message)
        return message

    async def until(self, *types: str) -> dict[str, Any]:
        """The next message of one of these types."""
        while (message := await self.receive())["type"] not in types:
            pass
        return message

    async def close_code(self) -> int | None:
        """Read on until the server has closed."""
        try:
            while True:
                await self.receive()
        except ConnectionClosed:
            return self.socket.close_code

    @property
    def text(self) -> str:
        """Of all turns."""
        return " ".join(self.turns[turn] for turn in sorted(self.turns))

    def of(self, type_: str) -> list[dict[str, Any]]:
        """Messages of a type."""
        return [message for message in self.messages if message["type"] == type_]

    def _check_caption(self, message: dict[str, Any]) -> None:
        turn = message["turn"]
        if turn in self.turns:
            self.broken.append(f"caption of turn {turn} after its end")
        if turn in self._rev and message["rev"] != self._rev[turn] + 1:
            self.broken.append(f"rev {message['rev']} after {self._rev[turn]} in turn {turn}")
        if not message["stable"].startswith(self._stable.get(turn, "")):
            self.broken.append(f"stable of turn {turn} was {self._stable[turn]!r}, is {message['stable']!r}")
        self._rev[turn], self._stable[turn] = message["rev"], message["stable"]

    def _check_turn_end(self, message: dict[str, Any]) -> None:
        turn = message["turn"]
        if turn != len(self.turns):
            self.broken.append(f"turn {turn} ended as number {len(self.turns)}")
        before, final = plain(self._stable.get(turn, "")), plain(message["text"])
        if final[: len(before)] != before:
            self.broken.append(f"turn {turn}: {message['text']!r} does not begin with {self._stable[turn]!r}")
        self.turns[turn] = message["text"]


def plain(text: str) -> list[str]:
    """Words without case and marks."""
    return re.sub(r"[^\w]+", " ", text.lower()).split()


def word_errors(reference: str, text: str) -> float:
    """Word error rate under Whisper's English normaliser."""
    normal = EnglishTextNormalizer()
    return float(jiwer.wer(normal(reference), normal(text)))


def with_silence(samples: NDArray[np.float32], seconds: float) -> NDArray[np.float32]:
    """Samples and silence after them, at 16 kHz."""
    return np.concatenate([samples, np.zeros(round(seconds * 16_000), np.float32)])


def joined(clips: Sequence[NDArray[np.float32]], gap_s: float) -> NDArray[np.float32]:
    """Clips with silence after each."""
    return np.concatenate([with_silence(clip, gap_s) for clip in clips])
