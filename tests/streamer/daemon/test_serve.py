"""Tests of streamer/daemon/serve.py: start, signals, stop and what the service manager is told; no real engine."""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import msgspec
import pytest
import trustme

from streamer.build.service import Service
from streamer.config import Config, ServerConfig, WyomingConfig
from streamer.daemon import serve as daemon
from streamer.errors import ConfigError, StreamerError
from streamer.host.sockets import listen
from streamer.protocol.options import SessionOptions
from tests.helpers.scripted_engine import ScriptedService, spoken
from tests.helpers.served_daemon import Manager, Microphone, serve, terminate

ENGLISH = SessionOptions(language="en")


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


def test_a_broken_watchdog_is_named_before_the_model_is_loaded(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    """The daemon does not start: it would be taken for one that hangs."""
    monkeypatch.setenv("WATCHDOG_USEC", "30s")
    with pytest.raises(ConfigError, match="WATCHDOG_USEC='30s': expected microseconds"):
        daemon.serve(config, build=lambda _: pytest.fail("the model was loaded"))


def test_a_port_in_use_is_named_before_the_model_is_loaded(config: Config) -> None:
    """The daemon does not start, and says what to do."""
    port = config.server.port
    with (
        socket.create_server(("127.0.0.1", port)),
        pytest.raises(StreamerError, match=rf"port {port} on 127\.0\.0\.1 is in use: .*; stop .* --port {port + 1}$"),
    ):
        daemon.serve(config, build=lambda _: pytest.fail("the model was loaded"))


def test_a_wyoming_port_in_use_is_named_before_the_model_is_loaded(config: Config) -> None:
    """As that of HTTP."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        several = msgspec.structs.replace(config, wyoming=WyomingConfig(port=port))
        with pytest.raises(StreamerError, match=rf"port {port} on 127\.0\.0\.1 is in use: .*, as wyoming\.port = "):
            daemon.serve(several, build=lambda _: pytest.fail("the model was loaded"))


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
