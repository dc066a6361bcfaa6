"""A daemon process on loopback: started, asked over HTTP, and stopped."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import httpx
import psutil

READY_TIMEOUT_S = 300.0


def free_port() -> int:
    """A TCP port that is free now."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


@contextlib.asynccontextmanager
async def daemon(
    port: int,
    *options: str,
    end: signal.Signals = signal.SIGTERM,
    module: str = "streamer",
    variables: Mapping[str, str] | None = None,
    n_files: int = 0,
    cwd: Path | None = None,
) -> AsyncIterator[psutil.Process]:
    """
    Run `streamer serve` for the length of a block, which begins when the daemon is ready.

    Args:
        port: To listen on.
        options: More arguments, as `--model base`.
        end: The signal that stops the daemon at the end of the block.
        module: The module that is run with the command `serve`.
        variables: More environment variables, as `STREAMER_SCHEDULER_MAX_SESSIONS`.
        n_files: Open files that it is allowed; 0: as many as this process.
        cwd: The folder in which it is started: its `streamer` is run, if it has one.

    Raises:
        SystemExit: The daemon ended before it was ready.
    """
    log = Path(tempfile.mkdtemp()) / "daemon.log"
    with log.open("w") as out:
        command = ("-m", module, "serve", "--port", str(port), *options)
        few = ("prlimit", f"--nofile={n_files}") if n_files else ()
        process = await asyncio.create_subprocess_exec(
            *few, sys.executable, *command, stdout=out, stderr=out, env={**os.environ, **(variables or {})}, cwd=cwd
        )
    try:
        async with asyncio.timeout(READY_TIMEOUT_S):
            while await get(port, "/readyz") is None:
                if process.returncode is not None:
                    last = log.read_text(encoding="utf-8", errors="replace").strip().rpartition("\n")[2]
                    raise SystemExit(f"the daemon ended: exit code {process.returncode}: {last}; its log: {log}")
                await asyncio.sleep(0.2)
        yield psutil.Process(process.pid)
        process.send_signal(end)
        if (code := await process.wait()) not in (0, -signal.SIGKILL):
            print(f"the daemon ended with {code}: {log}")
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def metrics(port: int) -> dict[str, float]:
    """The metrics without labels, by name; empty if the daemon does not answer."""
    found = re.findall(r"^((?:streamer|whisper)_\w+) (\S+)$", await get(port, "/metrics") or "", re.MULTILINE)
    return {name: float(value) for name, value in found}


async def get(port: int, path: str, headers: Mapping[str, str] | None = None) -> str | None:
    """The body of a page, asked for with these headers; None if the daemon does not answer with 200."""
    try:
        async with httpx.AsyncClient(trust_env=False, timeout=30) as client:
            response = await client.get(f"http://127.0.0.1:{port}{path}", headers=headers)
    except httpx.TransportError:
        return None
    return response.text if response.status_code == 200 else None
