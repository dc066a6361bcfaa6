"""A client of captions.v1 that does not give up: whatever becomes of its connections, its sound is heard once."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake
from websockets.typing import Subprotocol

RATE = 16_000
CHUNK = 1600
"""Samples of one message: 0.1 s."""


@dataclass
class ResumingClient:
    """
    Says one recording, at `pace` times its speed (0: as fast as it is taken).

    What tests look at: `text` of everything, `n_connections`, `connected`, `refusals` in seconds to wait.
    """

    url: Callable[[], str]
    samples: NDArray[np.float32]
    pace: float = 0.0
    headers: dict[str, str] = field(default_factory=dict)
    language: str = "en"
    retry_s: float = 0.1
    n_connections: int = 0
    connected: asyncio.Event = field(default_factory=asyncio.Event)
    refusals: list[float] = field(default_factory=list)
    is_over: bool = False
    _before: list[str] = field(default_factory=list)  # text of sessions that are gone
    _turns: dict[int, str] = field(default_factory=dict)
    _open: str = ""
    _stable_s: float = 0.0
    _identity: dict[str, str] | None = None

    @property
    def text(self) -> str:
        """What was said for sure, so far."""
        turns = [self._turns[turn] for turn in sorted(self._turns)]
        return " ".join(" ".join([*self._before, *turns, self._open]).split())

    async def run(self) -> None:
        """Until everything was heard."""
        while not self.is_over:
            try:
                async with connect(
                    self.url(),
                    subprotocols=[Subprotocol("captions.v1")],
                    additional_headers=self.headers,
                    compression=None,
                    proxy=None,
                    max_size=None,
                    open_timeout=30,
                ) as socket:
                    self.n_connections += 1
                    self.connected.set()
                    await self._converse(socket)
            except (OSError, EOFError, TimeoutError, ConnectionClosed, InvalidHandshake):
                await asyncio.sleep(self.retry_s)

    async def _converse(self, socket: ClientConnection) -> None:
        await socket.send(json.dumps(self._start()))
        sending: asyncio.Task[None] | None = None
        try:
            async for frame in socket:
                message = json.loads(frame)
                if message["type"] == "started":
                    self._adopt(message)
                    sending = asyncio.create_task(self._send(socket, round(message["resume_from_s"] * RATE)))
                self._receive(message)
        finally:
            if sending is not None:
                sending.cancel()
                await asyncio.gather(sending, return_exceptions=True)

    def _start(self) -> dict[str, Any]:
        start: dict[str, Any] = {"type": "start", "language": self.language}
        if self._identity is not None:
            context = self.text[-200:]
            start["resume"] = {**self._identity, "stable_s": self._stable_s, "context": context}
        return start

    def _adopt(self, started: dict[str, Any]) -> None:
        identity = {"session": started["session"], "token": started["resume"]}
        if identity != self._identity:
            self._before = [self.text]
            self._turns, self._open = {}, ""
        self._identity = identity

    async def _send(self, socket: ClientConnection, start: int) -> None:
        pcm = (np.clip(self.samples, -1, 1) * 32767).astype("<i2")
        for at in range(start, len(pcm), CHUNK):
            await socket.send(pcm[at : at + CHUNK].tobytes())
            await asyncio.sleep(CHUNK / RATE / self.pace if self.pace else 0)
        await socket.send('{"type":"end"}')

    def _receive(self, message: dict[str, Any]) -> None:
        match message["type"]:
            case "caption":
                self._open = message["stable"]
                stable = [word["end_s"] for word in message["words"] if word["stable"]]
                self._stable_s = max(self._stable_s, *stable, 0.0)
            case "turn_end":
                self._turns[message["turn"]] = message["text"]
                self._open = ""
                self._stable_s = max(self._stable_s, message["end_s"])
            case "ack":
                self._stable_s = max(self._stable_s, message["stable_s"])
            case "error" if "retry_after_s" in message:
                self.refusals.append(message["retry_after_s"])
            case "bye":
                # a bye of a drain says how much was heard: all, or there is more to say
                self.is_over = message["audio_s"] >= len(self.samples) / RATE - 0.01
