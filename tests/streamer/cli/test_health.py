"""Tests of streamer/cli/health.py."""

from __future__ import annotations

import asyncio
import socket
import ssl
from pathlib import Path

import msgspec
import pytest
import trustme
from click.testing import CliRunner, Result

from streamer.cli.commands import main
from streamer.cli.health import ask
from streamer.config import ServerConfig
from streamer.errors import ConfigError, StreamerError
from tests.helpers.fake_scheduler import FakeScheduler
from tests.helpers.http_daemon import CONFIG, serving

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nready\n"


async def asked(config: ServerConfig, within_s: float = 5.0) -> str:
    """The answer of a daemon that runs in this event loop."""
    return await asyncio.to_thread(ask, config, within_s)


async def command(*arguments: str, **environment: str) -> Result:
    """The command line, beside a daemon in this event loop."""
    return await asyncio.to_thread(CliRunner().invoke, main, ["health", *arguments], env=environment)


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "localhost"])
async def test_a_daemon_that_takes_sessions_is_healthy(host: str) -> None:
    """On this machine, whichever networks it listens on; the variables of the daemon say where."""
    async with serving() as daemon:
        found = await command(STREAMER_SERVER_HOST=host, STREAMER_SERVER_PORT=str(daemon.port))

    assert (found.exit_code, found.output) == (0, "ready\n")


async def test_a_daemon_is_found_by_its_options(tmp_path: Path) -> None:
    """Its file, and what was chosen otherwise on its command line."""
    (tmp_path / "file.toml").write_text("[server]\nhost = '192.0.2.1'\nport = 1\n", encoding="utf-8")
    async with serving() as daemon:
        options = ("--config", str(tmp_path / "file.toml"), "--host", "127.0.0.1", "--port", str(daemon.port))
        found = await command(*options)

    assert (found.exit_code, found.output) == (0, "ready\n")


async def test_a_daemon_that_takes_none_is_not_healthy() -> None:
    """It says why, and the exit code is 1."""
    scheduler = FakeScheduler()
    scheduler.ready = False
    async with serving(scheduler=scheduler) as daemon:
        found = await command("--port", str(daemon.port))

    assert found.exit_code == 1
    assert found.stderr.startswith(
        f"streamer: the daemon at port {daemon.port} on 127.0.0.1 takes no sessions: not ready"
    )


async def test_a_daemon_with_a_certificate_is_asked_over_tls(tmp_path: Path) -> None:
    """Its certificate is for another name than that of this machine to itself, and of an authority of its own."""
    authority, tls = trustme.CA(), ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("captions.example").configure_cert(tls)
    async with serving(tls=tls) as daemon:
        config = ServerConfig(port=daemon.port, tls_certificate="cert", tls_key="key")

        assert await asked(config) == "ready"
        with pytest.raises(StreamerError, match="no daemon answers"):
            await asked(msgspec.structs.replace(config, tls_certificate="", tls_key=""))


async def test_a_daemon_without_a_certificate_does_not_answer_over_tls() -> None:
    """Where the configuration is not that of the daemon."""
    async with serving() as daemon:
        with pytest.raises(StreamerError, match=r"no daemon answers .* name its configuration"):
            await asked(ServerConfig(port=daemon.port, tls_certificate="cert", tls_key="key"))


async def test_a_daemon_on_a_unix_socket_is_asked_there(tmp_path: Path) -> None:
    """The port says nothing then."""
    path = tmp_path / "daemon.sock"

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(ANSWER)
        writer.close()

    async with await asyncio.start_unix_server(answer, path):
        assert await asked(ServerConfig(host=f"unix:{path}", port=0)) == "ready"
    with pytest.raises(StreamerError, match=rf"no daemon answers at {path}: connection refused"):
        await asked(ServerConfig(host=f"unix:{path}", port=0))


@pytest.mark.parametrize("said", [b"", b"\0\1", b"SSH-2.0-OpenSSH\r\n"])
async def test_another_program_is_no_daemon(said: bytes) -> None:
    """One that closes, and one that speaks something else."""

    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(said)
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        with pytest.raises(StreamerError, match="no daemon answers at port"):
            await asked(ServerConfig(port=server.sockets[0].getsockname()[1]))


async def test_a_daemon_that_stands_still_is_not_healthy() -> None:
    """It accepts and never answers; one that loads its model does so too."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        with pytest.raises(StreamerError, match=f"no daemon answers at port {port} on 127.0.0.1: timed out; start it"):
            await asked(ServerConfig(port=port), 0.05)


def test_any_free_port_names_no_daemon() -> None:
    """The configuration says it, and does not know which."""
    with pytest.raises(ConfigError, match=r"server\.port = 0 is any free port: expected that of"):
        ask(CONFIG.server)
