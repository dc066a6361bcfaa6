"""What stands around a daemon of this process: its service manager, its microphones, and the signal that ends it."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from streamer.build.service import Service
from streamer.config import CaptureConfig, Config
from streamer.daemon import serve as daemon
from tests.helpers.scripted_engine import ScriptedService


class Manager:
    """A service manager: hears what the daemon tells it, and does something when it is told a thing."""

    def __init__(self, path: Path) -> None:
        self.heard: list[str] = []
        self.reactions: dict[str, Callable[[], None]] = {}
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._thread = threading.Thread(target=self._listen)
        self._thread.start()

    def _listen(self) -> None:
        while message := self._socket.recv(4096).decode():
            self.heard += message.splitlines()
            for line in message.splitlines():
                if reaction := self.reactions.pop(line, None):
                    reaction()

    def close(self) -> None:
        """Stop listening."""
        self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._socket.close()


def terminate() -> None:
    """As a service manager does."""
    os.kill(os.getpid(), signal.SIGTERM)


class Microphone:
    """Hears a sound once, or none at all, then does something, and waits for ever."""

    def __init__(self, sound: NDArray[np.float32] | None, then: Callable[[], None]) -> None:
        self.seen: list[object] = []
        self._sound, self._then = sound, then

    def open(self, config: CaptureConfig) -> Microphone:
        """As the daemon opens it."""
        self.seen.append(config)
        return self

    async def __aiter__(self) -> AsyncIterator[NDArray[np.float32]]:
        if self._sound is not None:
            yield self._sound
        self._then()
        await asyncio.Event().wait()

    async def aclose(self) -> None:
        """Release nothing."""
        self.seen.append("closed")


class Plugged:
    """One microphone after the other, each as it is found by an attempt to open it."""

    def __init__(self, *found: Microphone) -> None:
        self._found = iter(found)

    def open(self, config: CaptureConfig) -> Microphone:
        """As the daemon opens it."""
        return next(self._found).open(config)


def serve(scripted: ScriptedService, config: Config, microphone: Microphone | Plugged | None = None) -> int:
    """Run the daemon on the scripted service."""

    def build(_: Config) -> Service:
        return scripted.parts()

    if microphone is None:
        return daemon.serve(config, build=build)
    return daemon.serve(config, with_microphone=True, build=build, open_microphone=microphone.open)
