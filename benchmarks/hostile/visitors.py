"""Honest users who come and stay while a crowd is there."""

from __future__ import annotations

import asyncio
import json
import math
import sys
import time
from collections import Counter
from dataclasses import dataclass

import numpy as np
import psutil
from numpy.typing import NDArray
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

from benchmarks.hostile.honest import HEADERS, honest, longest, most_memory, state
from streamer.evaluation.percentiles import percentile

STAYING = 2
"""Honest streams that last as long as the crowd."""
EVERY_S = 0.5
"""Between two honest users who come."""
CROWD_NICE = 10
"""A crowd comes from other machines: here it takes what processor time the daemon and the honest users leave."""


@dataclass(frozen=True, slots=True)
class Visit:
    """What an honest user met."""

    in_s: float
    """Until its session began, seconds."""
    failure: str = ""
    """Why it did not, or was cut: the code of the daemon's error, else the kind of error here."""


async def come_in(port: int, pcm: NDArray[np.int16]) -> Visit:
    """An honest user who says a second."""
    began_s, in_s = time.monotonic(), math.inf
    try:
        async with (
            asyncio.timeout(20),
            connect(f"ws://127.0.0.1:{port}/v1/captions", additional_headers=HEADERS, proxy=None) as client,
        ):
            await client.send('{"type":"start"}')
            await _until(client, "started")
            in_s = time.monotonic() - began_s
            await client.send(pcm[:16_000].tobytes())
            await client.send('{"type":"end"}')
            await _until(client, "bye")
    except (OSError, WebSocketException, TimeoutError) as error:
        return Visit(in_s, type(error).__name__)
    except Refused as refused:
        return Visit(in_s, str(refused))
    return Visit(in_s)


class Refused(Exception):  # noqa: N818 - an answer, not a fault
    """The daemon answered with an error; its text is the code."""


async def _until(client: ClientConnection, type_: str) -> None:
    while (message := json.loads(await client.recv()))["type"] != type_:
        if message["type"] == "error":
            raise Refused(message["code"])


async def in_a_crowd(n: int, port: int, process: psutil.Process, pcm: NDArray[np.int16]) -> None:
    """Print what honest users and the daemon meet while a crowd is there."""
    alone_s = percentile(await honest(port, pcm), 95)
    before, used_s = await state(port, process), processor_s(process)
    seconds = len(pcm) / 16_000
    command = (sys.executable, "-m", "benchmarks.hostile.crowd", str(n), str(port), str(seconds + 4))
    gathering = await asyncio.create_subprocess_exec("nice", "-n", str(CROWD_NICE), *command)
    watching = asyncio.create_task(most_memory(process))
    await asyncio.sleep(3)
    staying = [asyncio.create_task(honest(port, pcm)) for _ in range(STAYING)]
    coming = list[asyncio.Task[Visit]]()
    for _ in range(int(seconds / EVERY_S)):
        coming.append(asyncio.create_task(come_in(port, pcm)))
        await asyncio.sleep(EVERY_S)
    daemon_s, crowd_s = processor_s(process) - used_s, processor_s(psutil.Process(gathering.pid))
    stayed = await asyncio.gather(*staying)
    visits = await asyncio.gather(*coming)
    await gathering.wait()
    watching.cancel()
    most_mb = await watching
    await asyncio.sleep(5)
    after = await state(port, process)
    in_s = [visit.in_s for visit in visits if not visit.failure]
    failures = Counter(visit.failure for visit in visits if visit.failure)
    n_cut = sum(math.inf in late for late in stayed)
    late_s = [one_s for late in stayed for one_s in late if one_s < math.inf]
    print(f"crowd of {n} connections for {seconds:g} s")
    print(f"honest users: {len(in_s)} of {len(visits)} got in, these in {_p95(in_s)} s (P95); others: {dict(failures)}")
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
