"""Tests of streamer.daemon: start, signals and stop, told to a service manager, with an engine that is never wrong."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import httpx
import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from streamer import daemon
from streamer.config import CaptureConfig, Config, ServerConfig
from streamer.errors import CaptureError, ConfigError, DeviceNotFoundError, StreamerError
from streamer.protocol.options import SessionOptions
from tests.helpers.scripted_engine import ScriptedService, spoken

ENGLISH = SessionOptions(language="en")


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


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Manager]:
    """The one that the environment names."""
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    manager = Manager(tmp_path / "notify")
    yield manager
    manager.close()


@pytest.fixture(autouse=True)
def scripted(monkeypatch: pytest.MonkeyPatch) -> ScriptedService:
    """The parts that a configuration becomes here."""
    service = ScriptedService()
    monkeypatch.setattr(daemon, "build", lambda _: service.parts())
    return service


@pytest.fixture
def config() -> Config:
    """A free port."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        return Config(server=ServerConfig(port=free.getsockname()[1], drain_s=5), session=ENGLISH)


def terminate() -> None:
    """As a service manager does."""
    os.kill(os.getpid(), signal.SIGTERM)


def microphone_of(
    monkeypatch: pytest.MonkeyPatch, sound: NDArray[np.float32], then: Callable[[], None]
) -> list[object]:
    """Let the microphone hear a sound, then do something, once; what was opened and closed of it."""
    seen: list[object] = []

    class Microphone:
        def __init__(self, config: CaptureConfig) -> None:
            seen.append(config)

        async def __aiter__(self) -> AsyncIterator[NDArray[np.float32]]:
            yield sound
            then()
            await asyncio.Event().wait()

        def close(self) -> None:
            seen.append("closed")

    monkeypatch.setattr(daemon, "MicrophoneSource", Microphone)
    return seen


def test_the_service_manager_is_told(manager: Manager, config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    """Loading, ready once the port answers, alive, stopping; and a clean stop is 0."""
    answers = []
    monkeypatch.setenv("WATCHDOG_USEC", "20000")

    def look() -> None:
        answers.append(httpx.get(f"http://127.0.0.1:{config.server.port}/readyz", trust_env=False).text)
        # the first sign of life that is heard after this ends the daemon
        manager.reactions["WATCHDOG=1"] = terminate

    manager.reactions["READY=1"] = look

    assert daemon.serve(config, None) == 0

    assert answers == ["ready\n"]
    told = [line for line in manager.heard if not line.startswith("EXTEND_TIMEOUT")]
    assert told[0] == "STATUS=loading the model"
    assert told.index("READY=1") < told.index("WATCHDOG=1") < told.index("STOPPING=1")
    assert f"STATUS=serving tiny.en on port {config.server.port}" in told


def test_no_watchdog_where_none_is_asked_for(manager: Manager, config: Config) -> None:
    """Without WATCHDOG_USEC nobody is fed."""
    manager.reactions["READY=1"] = terminate

    daemon.serve(config, None)

    assert "WATCHDOG=1" not in manager.heard


def test_a_port_in_use(config: Config) -> None:
    """The daemon says which, and does not start."""
    with (
        socket.create_server(("127.0.0.1", config.server.port)),
        pytest.raises(StreamerError, match=f"port {config.server.port} on 127.0.0.1 is in use"),
    ):
        daemon.serve(config, None)


def test_open_to_the_network_without_keys(config: Config, scripted: ScriptedService) -> None:
    """The daemon refuses before it loads anything."""
    server = msgspec.structs.replace(config.server, host="0.0.0.0")

    with pytest.raises(ConfigError, match="no API keys"):
        daemon.serve(msgspec.structs.replace(config, server=server), None)


def test_reload_of_the_keys(manager: Manager, config: Config, tmp_path: Path) -> None:
    """SIGHUP reads the file again, which the service manager is told; a broken file leaves the keys as they are."""
    file = tmp_path / "keys"
    file.write_text("one 0123456789abcdef\n")
    statuses = []

    def look(content: str, then: Callable[[], None]) -> Callable[[], None]:
        def react() -> None:
            headers = {"Authorization": "Bearer 0123456789abcdef"}
            url = f"http://127.0.0.1:{config.server.port}/metrics"
            statuses.append(httpx.get(url, headers=headers, trust_env=False).status_code)
            file.write_text(content)
            then()

        return react

    def reload(reaction: Callable[[], None]) -> Callable[[], None]:
        def react() -> None:
            # the READY=1 that ends the reload
            manager.reactions["READY=1"] = reaction
            os.kill(os.getpid(), signal.SIGHUP)

        return react

    last = look("", terminate)
    manager.reactions["READY=1"] = look("broken\n", reload(look("two fedcba9876543210\n", reload(last))))
    server = msgspec.structs.replace(config.server, keys_file=str(file))

    assert daemon.serve(msgspec.structs.replace(config, server=server), None) == 0

    assert statuses == [200, 200, 401]
    assert manager.heard.count("RELOADING=1") == 2


def test_a_microphone_that_is_not_there(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    """`serve --mic` without the device ends with its error, alone."""

    def missing() -> None:
        raise DeviceNotFoundError("no input device found")

    seen = microphone_of(monkeypatch, np.zeros(160, np.float32), missing)

    with pytest.raises(DeviceNotFoundError):
        daemon.serve(config, "")
    assert seen == [config.capture, "closed"]


def test_served_microphone(manager: Manager, config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    """A microphone is captioned until the stop, which closes it."""
    seen = microphone_of(monkeypatch, spoken("b c d f", pause_s=1.0), terminate)

    assert daemon.serve(config, "") == 0
    assert seen == [config.capture, "closed"]


def test_captions_in_the_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """`mic` shows what is said; Ctrl-C makes the rest final, and is 0."""
    seen = microphone_of(monkeypatch, spoken("b c d f"), lambda: os.kill(os.getpid(), signal.SIGINT))

    assert daemon.microphone(Config(session=ENGLISH)) == 0

    assert "b c d f" in capsys.readouterr().out
    assert seen[-1] == "closed"


def test_a_microphone_that_is_lost(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """What was said before is shown, then the error is raised."""

    def lost() -> None:
        raise CaptureError("the device is lost")

    microphone_of(monkeypatch, spoken("b c d f"), lost)

    with pytest.raises(CaptureError, match="lost"):
        daemon.microphone(Config(session=ENGLISH))
    assert "b c d f" in capsys.readouterr().out


async def test_a_fault_ends_the_captions(scripted: ScriptedService, monkeypatch: pytest.MonkeyPatch) -> None:
    """A scheduler that fails does not leave the terminal waiting."""

    def fault(_: object) -> None:
        raise ZeroDivisionError

    scripted.engine.on_step = fault
    microphone_of(monkeypatch, spoken("b c d f"), lambda: None)

    with pytest.raises((ZeroDivisionError, ExceptionGroup)):
        await asyncio.wait_for(daemon._microphone(Config(session=ENGLISH)), 5)
