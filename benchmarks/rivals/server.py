"""A system's server as a process of its own: started, watched, ended with all its children."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import psutil

from benchmarks.rivals.figures import Usage
from streamer.errors import StreamerError

START_S, STOP_S = 180.0, 10.0
"""Until the port must be open; until a server that was asked to end is killed."""
WATCH_S = 0.5
OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "NO_PROXY": "*"}
"""Weights are given by path: nothing is fetched while the clock runs."""


class SetUpError(StreamerError):
    """A system cannot be installed or started."""


@asynccontextmanager
async def serving(command: Sequence[str], port: int, log: Path) -> AsyncIterator[Watch]:
    """
    Run a server while the block runs; it is up when its port is open.

    Threads are bounded to the cores: CTranslate2 would take four.

    Raises:
        SetUpError: It ends, or its port stays closed.
    """
    environment = {**os.environ, **OFFLINE, "OMP_NUM_THREADS": str(os.cpu_count())}
    with log.open("ab") as out:
        process = await asyncio.create_subprocess_exec(
            *command, stdout=out, stderr=out, env=environment, start_new_session=True
        )
    try:
        await _wait_open(process, port, log)
        yield Watch(process.pid)
    finally:
        _signal(process.pid, signal.SIGTERM)
        with suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), STOP_S)
        _signal(process.pid, signal.SIGKILL)
        await process.wait()


async def _wait_open(process: asyncio.subprocess.Process, port: int, log: Path) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(START_S):
            while process.returncode is None:
                with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                    return
                await asyncio.sleep(0.2)
    reason = "its port is still closed" if process.returncode is None else f"exit code {process.returncode}"
    raise SetUpError(f"the server did not start: {reason}; its log: {log}")


def _signal(group: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(group, number)


class Watch:
    """Processor time and memory of a process and its children."""

    def __init__(self, pid: int) -> None:
        self._root = psutil.Process(pid)
        self._began_cpu_s, self._peak_bytes = 0.0, 0

    async def run(self) -> None:
        """Count from now until cancelled."""
        self._began_cpu_s = self._sum()[0]
        while True:
            self._peak_bytes = max(self._peak_bytes, self._sum()[1])
            await asyncio.sleep(WATCH_S)

    def usage(self) -> Usage:
        """Since `run` began."""
        return Usage(cpu_s=self._sum()[0] - self._began_cpu_s, peak_mb=self._peak_bytes / 2**20)

    def _sum(self) -> tuple[float, int]:
        cpu_s, rss = 0.0, 0
        # a process may end while it is looked at, the server itself too: its streams have failed then
        with suppress(psutil.NoSuchProcess):
            for process in [self._root, *self._root.children(recursive=True)]:
                with suppress(psutil.NoSuchProcess):
                    times = process.cpu_times()
                    cpu_s += times.user + times.system
                    rss += process.memory_info().rss
        return cpu_s, rss
