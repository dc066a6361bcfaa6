"""Tests of streamer.daemon: start, signals and stop, told to a service manager, with an engine that is never wrong."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import socket
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import msgspec
import numpy as np
import pytest
import trustme
from numpy.typing import NDArray

from streamer import daemon
from streamer.build.service import Service
from streamer.config import CaptureConfig, Config, ServerConfig
from streamer.errors import CaptureError, ConfigError, DeviceNotFoundError, EngineError, OverloadError, StreamerError
from streamer.host.interpreter import SWITCH_S
from streamer.host.sockets import listen
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


@pytest.fixture
def scripted() -> ScriptedService:
    """What the daemon builds here."""
    return ScriptedService()


@pytest.fixture
def config() -> Config:
    """A free port."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        return Config(server=ServerConfig(port=free.getsockname()[1], drain_s=5), session=ENGLISH)


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


def caption(scripted: ScriptedService, microphone: Microphone) -> int:
    """Show captions of a microphone in the terminal."""
    return daemon.microphone(Config(session=ENGLISH), build=lambda _: scripted.parts(), open_microphone=microphone.open)


def test_the_threads_of_a_daemon_share_the_interpreter() -> None:
    """The thread that computes has it soon, whatever the event loop does."""
    seen, before_s = list[float](), sys.getswitchinterval()

    async def look() -> None:
        seen.append(sys.getswitchinterval())

    try:
        daemon.run(look())
    finally:
        sys.setswitchinterval(before_s)

    assert seen == [pytest.approx(SWITCH_S)]


def test_the_service_manager_is_told(
    manager: Manager, config: Config, scripted: ScriptedService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Loading, ready once the port answers, alive, stopping; and a clean stop is 0."""
    answers = []
    monkeypatch.setenv("WATCHDOG_USEC", "20000")

    def look() -> None:
        answers.append(httpx.get(f"http://127.0.0.1:{config.server.port}/readyz", trust_env=False).text)
        # the first sign of life that is heard after this ends the daemon
        manager.reactions["WATCHDOG=1"] = terminate

    manager.reactions["READY=1"] = look

    assert serve(scripted, config) == 0

    assert answers == ["ready\n"]
    told = [line for line in manager.heard if not line.startswith("EXTEND_TIMEOUT")]
    assert told[0] == "STATUS=loading the model"
    assert told.index("READY=1") < told.index("WATCHDOG=1") < told.index("STOPPING=1")
    assert f"STATUS=serving tiny.en at http://127.0.0.1:{config.server.port}/" in told


def test_no_watchdog_is_fed_where_there_is_none(manager: Manager, config: Config, scripted: ScriptedService) -> None:
    """There is none without WATCHDOG_USEC."""
    manager.reactions["READY=1"] = terminate

    serve(scripted, config)

    assert "WATCHDOG=1" not in manager.heard


def test_a_port_in_use_is_named_before_the_model_is_loaded(config: Config) -> None:
    """The daemon does not start, and says what to do."""
    port = config.server.port
    with (
        socket.create_server(("127.0.0.1", port)),
        pytest.raises(StreamerError, match=rf"port {port} on 127\.0\.0\.1 is in use: .*; stop .* --port {port + 1}$"),
    ):
        daemon.serve(config, build=lambda _: pytest.fail("the model was loaded"))


def test_a_unix_socket_is_shown_and_removed(manager: Manager, scripted: ScriptedService, tmp_path: Path) -> None:
    """Its path stands where the address would; one in use is named, without the advice to take another port."""
    host = f"unix:{tmp_path}/daemon.sock"
    config = Config(server=ServerConfig(host=host), session=ENGLISH)
    manager.reactions["READY=1"] = terminate

    assert serve(scripted, config) == 0

    assert f"STATUS=serving tiny.en at {host}" in manager.heard
    assert not (tmp_path / "daemon.sock").exists()
    with listen(host, 0), pytest.raises(StreamerError, match=r"daemon\.sock is in use: address already in use; "):
        serve(scripted, config)


def test_a_model_that_cannot_be_loaded_frees_the_port(config: Config) -> None:
    """Somebody else may have it."""

    def build(_: Config) -> Service:
        raise StreamerError("no model")

    with pytest.raises(StreamerError, match="no model"):
        daemon.serve(config, build=build)
    socket.create_server(("127.0.0.1", config.server.port)).close()


@pytest.mark.parametrize("is_terminal", [True, False])
def test_a_person_on_a_terminal_is_told_what_happens(
    manager: Manager,
    config: Config,
    scripted: ScriptedService,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    is_terminal: bool,
) -> None:
    """Loading, then the address, then the stop; a log that is no terminal gets none of it."""
    manager.reactions["READY=1"] = terminate
    monkeypatch.setattr(sys.stderr, "isatty", lambda: is_terminal)

    serve(scripted, config)

    beginnings = ("Loading", "Captions", "Stopping")
    told = [line for line in capsys.readouterr().err.splitlines() if line.startswith(beginnings)]
    expected = [
        "Loading tiny.en and measuring what this machine can carry …",
        f"Captions at http://127.0.0.1:{config.server.port}/ · Ctrl-C stops",
        "Stopping: open sessions get their last words · Ctrl-C again ends at once",
    ]
    assert told == (expected if is_terminal else [])


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://0.0.0.0:80/", "http://127.0.0.1:80/ and http://box:80/"),
        ("https://[::]:80/", "https://127.0.0.1:80/ and https://box:80/"),
        ("http://[::1]:80/", "http://[::1]:80/"),
    ],
)
def test_the_address_is_one_that_a_browser_opens(url: str, shown: str) -> None:
    """Every network of the machine has no address of its own."""
    assert daemon.for_browsers(url, "box") == shown


def test_an_open_network_without_keys_is_refused(config: Config, scripted: ScriptedService) -> None:
    """Before anything is loaded."""
    server = msgspec.structs.replace(config.server, host="0.0.0.0")

    with pytest.raises(ConfigError, match="no API keys"):
        serve(scripted, msgspec.structs.replace(config, server=server))


def test_the_expiry_of_the_certificate_is_published(
    manager: Manager, config: Config, scripted: ScriptedService, tmp_path: Path
) -> None:
    """Where there is one."""
    expires = datetime.now(tz=UTC).replace(microsecond=0) + timedelta(days=30)
    issued, files = trustme.CA().issue_cert("127.0.0.1", not_after=expires), (tmp_path / "cert", tmp_path / "key")
    files[0].write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    files[1].write_bytes(issued.private_key_pem.bytes())
    manager.reactions["READY=1"] = terminate
    server = msgspec.structs.replace(config.server, tls_certificate=str(files[0]), tls_key=str(files[1]))

    serve(scripted, msgspec.structs.replace(config, server=server))

    assert scripted.count("streamer_certificate_expires_timestamp_seconds") == expires.timestamp()


def test_sighup_reads_the_keys_again(
    manager: Manager, config: Config, scripted: ScriptedService, tmp_path: Path
) -> None:
    """The service manager is told; a broken file leaves the keys as they are."""
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

    assert serve(scripted, msgspec.structs.replace(config, server=server)) == 0

    assert statuses == [200, 200, 401]
    assert manager.heard.count("RELOADING=1") == 2


def test_the_signal_that_replaces_gateways_ends_no_daemon(config: Config, scripted: ScriptedService) -> None:
    """Neither one that still loads nor one of one process."""
    seen = list[object]()

    def build(_: Config) -> Service:
        seen.append(signal.getsignal(signal.SIGUSR1))
        terminate()
        return scripted.parts()

    before = signal.signal(signal.SIGUSR1, signal.SIG_DFL)
    try:
        assert daemon.serve(config, build=build) == 0
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert seen == [signal.SIG_IGN]


def test_a_terminal_that_is_closed_ends_its_daemon(
    manager: Manager, config: Config, scripted: ScriptedService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGHUP says that its window is gone: nobody would see that a microphone is still heard."""
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
    manager.reactions["READY=1"] = lambda: os.kill(os.getpid(), signal.SIGHUP)

    assert serve(scripted, config, Microphone(spoken("b c d f"), lambda: None)) == 0
    assert "RELOADING=1" not in manager.heard


def missing() -> None:
    """As where no device is plugged in."""
    raise DeviceNotFoundError("no input device found")


def test_a_microphone_that_is_not_there_ends_a_daemon_that_a_person_starts(
    config: Config, scripted: ScriptedService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the error of the microphone alone: it is probably named wrongly."""
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
    microphone = Microphone(None, missing)

    with pytest.raises(DeviceNotFoundError):
        serve(scripted, config, microphone)
    assert microphone.seen == [config.capture, "closed"]


def test_a_served_microphone_is_captioned_until_the_stop(
    manager: Manager, config: Config, scripted: ScriptedService
) -> None:
    """The stop closes it."""
    microphone = Microphone(spoken("b c d f", pause_s=1.0), terminate)

    assert serve(scripted, config, microphone) == 0
    assert microphone.seen == [config.capture, "closed"]


def test_a_service_waits_for_a_microphone_that_is_not_there(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the start and after a loss; its session keeps its place, its room is live while there is sound."""
    monkeypatch.setattr(daemon, "AWAY_S", 0.0)
    scripted = ScriptedService(max_sessions=1)
    alive: list[float | None] = []

    def note(then: Callable[[], None]) -> Callable[[], None]:
        def react() -> None:
            with pytest.raises(OverloadError):
                scripted.open()
            alive.append(scripted.count("streamer_microphone_alive"))
            then()

        return react

    sound = spoken("b c d f")
    found = [Microphone(None, note(missing)) for _ in range(2)]
    found += [Microphone(sound, note(missing)), Microphone(None, note(missing)), Microphone(sound, note(terminate))]

    assert serve(scripted, config, Plugged(*found)) == 0

    assert alive == [0, 0, 1, 0, 1]
    assert scripted.count("streamer_sessions_opened_total") == 2
    assert [microphone.seen[-1] for microphone in found] == ["closed"] * 5


def test_a_microphone_whose_session_fails_gets_another_one(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sessions of others go on."""
    monkeypatch.setattr(daemon, "AWAY_S", 0.0)
    scripted = ScriptedService()
    n_left = itertools.count(3, -1)

    def fail(_: object) -> None:
        if next(n_left) > 0:
            raise EngineError("a step failed")

    scripted.engine.on_step = fail
    waits = Microphone(spoken("b c d f", pause_s=9.0), lambda: None)

    assert serve(scripted, config, Plugged(waits, Microphone(spoken("b c"), terminate))) == 0
    assert scripted.count("streamer_sessions_opened_total") == 2


def test_a_muted_microphone_keeps_its_place(config: Config) -> None:
    """A client that finds no place is refused, and the daemon goes on."""
    scripted = ScriptedService(max_sessions=1, silent_s=0.0)

    def come() -> None:
        with pytest.raises(OverloadError, match="1 of 1 sessions open"):
            scripted.open()
        terminate()

    assert serve(scripted, config, Microphone(np.zeros(160, np.float32), come)) == 0


def test_captions_are_shown_in_the_terminal(scripted: ScriptedService, capsys: pytest.CaptureFixture[str]) -> None:
    """Ctrl-C makes the rest final, and the exit code is 0."""
    microphone = Microphone(spoken("b c d f"), lambda: os.kill(os.getpid(), signal.SIGINT))

    assert caption(scripted, microphone) == 0

    assert "b c d f" in capsys.readouterr().out
    assert microphone.seen[-1] == "closed"


def test_a_microphone_that_is_lost_ends_the_captions(
    scripted: ScriptedService, capsys: pytest.CaptureFixture[str]
) -> None:
    """What was said before is shown, then the error is raised."""

    def lost() -> None:
        raise CaptureError("the device is lost")

    with pytest.raises(CaptureError, match="lost"):
        caption(scripted, Microphone(spoken("b c d f"), lost))
    assert "b c d f" in capsys.readouterr().out


def test_a_fault_ends_the_captions(scripted: ScriptedService) -> None:
    """A scheduler that fails does not leave the terminal waiting."""

    def fault(_: object) -> None:
        raise ZeroDivisionError

    scripted.engine.on_step = fault

    with pytest.raises((ZeroDivisionError, ExceptionGroup)):
        caption(scripted, Microphone(spoken("b c d f"), lambda: None))
