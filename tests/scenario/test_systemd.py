"""The units, and the daemon as a service manager runs it: its socket, its credentials, its questions."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.helpers.daemon_process import ROOT, environment

UNITS = ROOT / "systemd"
KEY = "kitchen-0123456789abcdef"
needs_systemd = pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is not installed")


def run(*command: object) -> str:
    """What a command says, which succeeds."""
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@needs_systemd
@pytest.mark.parametrize("unit", ["streamer.service", "streamer-mic.service", "streamer.socket"])
def test_units_are_valid(unit: str, tmp_path: Path) -> None:
    """No line that systemd does not know, where the program is in its place."""
    for file in UNITS.glob("streamer*"):
        text = re.sub(r"(?<==)\S+/bin/streamer", "/bin/true", file.read_text())
        (tmp_path / file.name).write_text(text)

    assert run("systemd-analyze", "verify", tmp_path / unit) == ""


@needs_systemd
def test_the_sandbox_is_tight() -> None:
    """At most 1.8 of 10."""
    found = run("systemd-analyze", "security", "--offline=true", UNITS / "streamer.service")

    level = re.search(r"Overall exposure level for streamer\.service: ([\d.]+)", found)
    assert level is not None
    assert float(level[1]) <= 1.8


@needs_systemd
def test_the_account_can_be_made() -> None:
    """In the syntax of sysusers.d, with the groups of sound and GPU."""
    found = run("systemd-sysusers", "--dry-run", UNITS / "streamer.sysusers.conf")

    assert "streamer" in found


def test_the_stop_waits_long_enough() -> None:
    """A drain ends before systemd's patience does, with the configurations as they are."""
    patience_s = int(re.search(r"^TimeoutStopSec=(\d+)", (UNITS / "streamer.service").read_text(), re.MULTILINE)[1])
    for file in (ROOT / "configs").glob("*.toml"):
        drain = re.search(r"^drain_s = (\d+)", file.read_text(), re.MULTILINE)
        assert drain is None or int(drain[1]) < patience_s - 10


class Manager:
    """What systemd does for a service: a notify socket, a listening socket, credentials, a watchdog."""

    def __init__(self, folder: Path) -> None:
        self.credentials = folder / "credentials"
        self.credentials.mkdir()
        (self.credentials / "api-keys").write_text(f"kitchen {KEY}\n")
        self.log = folder / "log"
        self.notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.notify.bind(str(folder / "notify"))
        self.notify.setblocking(False)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self._address = str(folder / "notify")

    def close(self) -> None:
        """Both sockets."""
        self.notify.close()
        self.listener.close()

    def start(self) -> subprocess.Popen[bytes]:
        """The daemon, with the listener as descriptor 3."""

        def hand_over() -> None:
            os.dup2(self.listener.fileno(), 3)

        variables = {
            "NOTIFY_SOCKET": self._address,
            "WATCHDOG_USEC": "400000",
            "LISTEN_FDS": "1",
            "CREDENTIALS_DIRECTORY": str(self.credentials),
            "STREAMER_MODEL_THREADS": "1",
            # were it listened on, the start would fail: there is no such address here
            "STREAMER_SERVER_HOST": "192.0.2.1",
        }
        with self.log.open("w") as out:
            return subprocess.Popen(
                ["/bin/sh", "-c", f'LISTEN_PID=$$ exec "{sys.executable}" -m streamer serve'],
                close_fds=False,
                preexec_fn=hand_over,
                stdout=out,
                stderr=out,
                cwd=ROOT,
                env=environment(**variables),
            )

    async def told(self, line: str) -> list[str]:
        """Every line up to this one."""
        lines: list[str] = []
        async with asyncio.timeout(120):
            while line not in lines:
                lines += (await asyncio.get_running_loop().sock_recv(self.notify, 4096)).decode().splitlines()
        return lines

    def drain(self) -> list[str]:
        """What was told and not yet heard."""
        lines: list[str] = []
        while True:
            try:
                lines += self.notify.recv(4096).decode().splitlines()
            except BlockingIOError:
                return lines

    async def status(self, path: str, key: str = KEY) -> int:
        """Of an HTTP answer over the socket that was handed over."""
        url = f"http://127.0.0.1:{self.listener.getsockname()[1]}{path}"
        async with httpx.AsyncClient(trust_env=False, timeout=120) as client:
            return (await client.get(url, headers={"Authorization": f"Bearer {key}"})).status_code


async def test_life_of_a_service(tmp_path: Path) -> None:
    """
    Ready after a decode on the socket that was handed over, keys from the credential, alive while it runs and only
    then, reloaded, stopped.
    """
    manager = Manager(tmp_path)
    process = manager.start()
    try:
        before = await manager.told("READY=1")
        assert before[0] == "STATUS=loading the model"
        assert "engine_ready" in manager.log.read_text(), "a real decode comes before readiness"
        assert await manager.status("/readyz") == 200
        assert [await manager.status("/metrics"), await manager.status("/metrics", "no-such-key")] == [200, 401]

        await manager.told("WATCHDOG=1")
        process.send_signal(signal.SIGSTOP)
        await asyncio.to_thread(os.waitpid, process.pid, os.WUNTRACED)  # until it stands still
        manager.drain()
        await asyncio.sleep(0.6)  # of systemd's time: longer than the watchdog allows
        assert manager.drain() == [], "a daemon that stands still feeds no watchdog"
        process.send_signal(signal.SIGCONT)
        await manager.told("WATCHDOG=1")
        assert await manager.status("/readyz") == 200

        (manager.credentials / "api-keys").write_text("office office-0123456789abcdef\n")
        process.send_signal(signal.SIGHUP)
        reload = await manager.told("READY=1")
        assert "RELOADING=1" in reload
        assert await manager.status("/metrics") == 401

        process.terminate()
        await manager.told("STOPPING=1")
        assert await asyncio.to_thread(process.wait, 120) == 0
    finally:
        process.kill()
        process.wait()
        manager.close()
    assert "Traceback" not in manager.log.read_text()
