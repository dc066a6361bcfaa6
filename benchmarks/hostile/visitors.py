"""Honest users who come and stay while a crowd is there."""

from __future__ import annotations

import asyncio
import json
import math
import sys
import time

import numpy as np
import psutil
from numpy.typing import NDArray
from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException

from benchmarks.hostile.honest import HEADERS, honest, longest, most_memory, state
from streamer.evaluation.percentiles import percentile

STAYING = 2
"""Honest streams that last as long as the crowd."""
EVERY_S = 0.5
"""Between two honest users who come."""


async def come_in(port: int, pcm: NDArray[np.int16]) -> float:
    """An honest user who says a second; seconds until its session began, infinity: it did not get in or was cut."""
    began_s = time.monotonic()
    try:
        async with (
            asyncio.timeout(20),
            connect(f"ws://127.0.0.1:{port}/v1/captions", additional_headers=HEADERS, proxy=None) as client,
        ):
            await client.send('{"type":"start"}')
            while json.loads(await client.recv())["type"] != "started":
                pass
            in_s = time.monotonic() - began_s
            await client.send(pcm[:16_000].tobytes())
            await client.send('{"type":"end"}')
            while json.loads(await client.recv())["type"] != "bye":
                pass
    except (OSError, WebSocketException, TimeoutError):
        return math.inf
    return in_s


async def in_a_crowd(n: int, port: int, process: psutil.Process, pcm: NDArray[np.int16]) -> None:
    """Print what honest users and the daemon meet while a crowd is there."""
    alone_s = percentile(await honest(port, pcm), 95)
    before, used_s = await state(port, process), processor_s(process)
    seconds = len(pcm) / 16_000
    command = ("-m", "benchmarks.hostile.crowd", str(n), str(port), str(seconds + 4))
    gathering = await asyncio.create_subprocess_exec(sys.executable, *command)
    watching = asyncio.create_task(most_memory(process))
    await asyncio.sleep(3)
    staying = [asyncio.create_task(honest(port, pcm)) for _ in range(STAYING)]
    coming = list[asyncio.Task[float]]()
    for _ in range(int(seconds / EVERY_S)):
        coming.append(asyncio.create_task(come_in(port, pcm)))
        await asyncio.sleep(EVERY_S)
    daemon_s, crowd_s = processor_s(process) - used_s, processor_s(psutil.Process(gathering.pid))
    stayed = await asyncio.gather(*staying)
    came_s = await asyncio.gather(*coming)
    await gathering.wait()
    watching.cancel()
    most_mb = await watching
    await asyncio.sleep(5)
    after = await state(port, process)
    in_s = [one_s for one_s in came_s if one_s < math.inf]
    n_cut = sum(math.inf in late for late in stayed)
    late_s = [one_s for late in stayed for one_s in late if one_s < math.inf]
    print(f"crowd of {n} connections for {seconds:g} s")
    print(f"honest users: {len(in_s)} of {len(came_s)} got in, these in {_p95(in_s)} s (P95)")
    print(f"honest streams: {n_cut} of {STAYING} cut, captions P95 {_p95(late_s)} s, alone {alone_s:.2f} s")
    print(f"processor time: daemon {daemon_s:.1f} s, crowd {crowd_s:.1f} s")
    print(f"loop: {', '.join(f'{cause} {longest(before, after, cause)} s' for cause in before.late)}")
    print(f"memory: {most_mb - before.memory_mb:.0f} MB more, {after.memory_mb - before.memory_mb:.0f} MB kept")
    n_tracebacks = after.n_tracebacks - before.n_tracebacks
    print(f"log: {after.n_log_bytes - before.n_log_bytes:,} bytes, {n_tracebacks} tracebacks")


def processor_s(process: psutil.Process) -> float:
    """Processor time that a process has used, seconds."""
    times = process.cpu_times()
    return float(times.user + times.system)


def _p95(seconds: list[float]) -> str:
    return f"{percentile(seconds, 95):.2f}" if seconds else "-"
