"""A daemon process on loopback, as the benchmarks need it: started, asked, stopped."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import socket
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import numpy as np
import psutil
from numpy.typing import NDArray

READY_TIMEOUT_S = 300.0


def free_port() -> int:
    """A TCP port that nobody uses now."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


@contextlib.asynccontextmanager
async def daemon(
    port: int,
    *options: str,
    end: signal.Signals = signal.SIGTERM,
    module: str = "streamer",
    **variables: str,
) -> AsyncIterator[psutil.Process]:
    """
    `streamer serve` until the block is left.

    Args:
        port: Where it listens.
        options: More of the command line, as `--model base`.
        end: How it is stopped.
        module: What is run with `serve`.
        variables: More of its environment, as `STREAMER_SCHEDULER_MAX_SESSIONS`.
    """
    log = Path(tempfile.mkdtemp()) / "daemon.log"
    with log.open("w") as out:
        command = ("-m", module, "serve", "--port", str(port), *options)
        process = await asyncio.create_subprocess_exec(
            sys.executable, *command, stdout=out, stderr=out, env={**os.environ, **variables}
        )
    try:
        async with asyncio.timeout(READY_TIMEOUT_S):
            while await get(port, "/readyz") is None:
                if process.returncode is not None:
                    raise SystemExit(f"the daemon ended: exit code {process.returncode}; its log: {log}")
                await asyncio.sleep(0.2)
        yield psutil.Process(process.pid)
        process.send_signal(end)
        if (code := await process.wait()) not in (0, -signal.SIGKILL):
            print(f"the daemon ended with {code}: {log}")
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def pcm16(samples: NDArray[np.float32]) -> NDArray[np.int16]:
    """Samples, (n,), as a client sends them."""
    return (np.clip(samples, -1, 1) * 32767).astype("<i2")


async def metrics(port: int) -> dict[str, float]:
    """The metrics that have no labels, by name; none where nobody answers."""
    found = re.findall(r"^((?:streamer|whisper)_\w+) (\S+)$", await get(port, "/metrics") or "", re.MULTILINE)
    return {name: float(value) for name, value in found}


async def get(port: int, path: str) -> str | None:
    """Body of a page that is served, else None."""
    try:
        async with httpx.AsyncClient(trust_env=False, timeout=30) as client:
            response = await client.get(f"http://127.0.0.1:{port}{path}")
    except httpx.TransportError:
        return None
    return response.text if response.status_code == 200 else None
