"""An honest stream beside an attack, and what a daemon uses meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
from numpy.typing import NDArray
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

from benchmarks import served
from benchmarks.common import paced

HONEST = "honest-honest-honest-key"
HEADERS = {"Authorization": f"Bearer {HONEST}"}
CAUSES = ("held", "waited", "starved")
"""Why the event loop was late: it worked, it waited in its work, the machine did not run it."""


@dataclass(frozen=True, slots=True)
class State:
    """What a daemon had used up at one moment."""

    memory_mb: float
    n_sessions: float
    n_log_bytes: int
    n_tracebacks: int
    late: dict[str, dict[str, float]]
    """Times when the loop was late, by cause and by the upper edge of their bucket."""


def memory_mb(process: psutil.Process) -> float:
    """Resident memory of a process, and what its children have for themselves."""
    total = float(process.memory_info().rss)
    for child in process.children(recursive=True):
        with contextlib.suppress(psutil.Error):
            total += child.memory_full_info().uss
    return total / 1e6


async def state(port: int, process: psutil.Process) -> State:
    """Ask a daemon and its process."""
    text = await served.get(port, "/metrics", HEADERS) or ""
    sessions = re.search(r"^streamer_sessions (\S+)$", text, re.MULTILINE)
    lines = await asyncio.to_thread(Path(f"/proc/{process.pid}/fd/2").read_bytes)
    return State(
        memory_mb=memory_mb(process),
        n_sessions=float(sessions[1]) if sessions else float("nan"),
        n_log_bytes=len(lines),
        n_tracebacks=lines.count(b"Traceback"),
        late={cause: _buckets(text, cause) for cause in CAUSES},
    )


def _buckets(text: str, cause: str) -> dict[str, float]:
    line = rf'^streamer_loop_{cause}_seconds_bucket\{{le="(\S+)"\}} (\S+)$'
    return {edge: float(count) for edge, count in re.findall(line, text, re.MULTILINE)}


def longest(before: State, after: State, cause: str) -> str:
    """The upper edge of the bucket of the longest new lateness of a cause, in seconds."""
    old, new = before.late[cause], after.late[cause]
    n_new = new.get("+Inf", 0.0) - old.get("+Inf", 0.0)
    if not n_new:
        return "< 0.05"
    inside = [edge for edge in new if new[edge] - old.get(edge, 0.0) == n_new]
    return f"< {inside[0]}" if inside[0] != "+Inf" else f"> {[*new][-2]}"


async def most_memory(process: psutil.Process) -> float:
    """Watch a process until cancelled; its largest memory, MB."""
    most = 0.0
    try:
        while True:
            most = max(most, await asyncio.to_thread(memory_mb, process))
            await asyncio.sleep(0.1)
    except asyncio.CancelledError:
        return most


async def honest(port: int, pcm: NDArray[np.int16]) -> list[float]:
    """
    Play a recording in real time.

    Returns:
        How late each caption came behind the audio that it ends with, seconds; infinity if the stream was cut.
    """
    late_s = list[float]()
    try:
        async with connect(f"ws://127.0.0.1:{port}/v1/captions", additional_headers=HEADERS, proxy=None) as client:
            await client.send('{"type":"start"}')
            async with asyncio.TaskGroup() as group:
                group.create_task(_listen(client, late_s))
                async for chunk in paced(pcm):
                    await client.send(chunk)
                await client.send('{"type":"end"}')
    except* (OSError, WebSocketException, TimeoutError):
        late_s.append(float("inf"))
    return late_s


async def _listen(client: ClientConnection, late_s: list[float]) -> None:
    began_s = time.monotonic()
    async for text in client:
        message = json.loads(text)
        if message["type"] in ("caption", "turn_end"):
            late_s.append(time.monotonic() - began_s - message["end_s"])
