"""
Fan-out delay of a caption to a thousand viewers of one room, and the delay of its speaker beside them.

    python -m benchmarks.viewers [--viewers 1000] [--seconds 30] [--model tiny.en]

The daemon runs as a process of its own on loopback; one client speaks a recording in real time, once without and once
with viewers. The fan-out delay is counted from the first viewer that has a caption to each other viewer; the delay of
the speaker from the end of a word to its first caption. All viewers share one process, which competes with the daemon
for the same cores: the viewers of a real room do not.
"""

from __future__ import annotations

import asyncio
import json
import resource
import time
from collections import defaultdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from websockets.asyncio.client import ClientConnection, connect
from websockets.typing import Subprotocol

from benchmarks.arguments import number, program, whole
from benchmarks.common import argument_parser, paced, pcm16
from benchmarks.served import daemon, free_port
from streamer.audio.files import read_audio
from streamer.audio.pcm import SAMPLE_RATE
from streamer.evaluation.percentiles import percentile

RECORDING = Path(__file__).parent.parent / "tests" / "data" / "dev-jfk.flac"
MAX_VIEWERS = 5000


def main() -> None:
    """Print the delays without and with viewers."""
    arguments = argument_parser(__doc__, with_manifest=False)
    arguments.add_argument("--viewers", type=whole(), default=1000, choices=range(1, MAX_VIEWERS + 1), metavar="N")
    arguments.add_argument("--seconds", type=number(0.1), default=30.0)
    args = arguments.parse_args()
    # a descriptor for each viewer, and some for the process itself
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, args.viewers + 512), hard))
    asyncio.run(measure(args.viewers, args.seconds, args.model))


async def measure(n_viewers: int, seconds: float, model: str) -> None:
    """
    Speak without and with viewers to one daemon, and print the delays.

    Args:
        n_viewers: Of the room.
        seconds: Speech of each run.
        model: Name of the model.
    """
    settings = {
        "STREAMER_SERVER_ROOMS": "true",
        "STREAMER_LIMITS_MAX_VIEWERS": str(n_viewers),
        "STREAMER_LIMITS_MAX_CONNECTIONS": str(n_viewers + 64),
        "STREAMER_LIMITS_HANDSHAKES_PER_S": "5000",
        "STREAMER_SCHEDULER_MAX_SESSIONS": "4",
    }
    port = free_port()
    async with daemon(port, "--model", model, variables=settings):
        alone = await speak(port, seconds)
        print(f"speaker alone:            {shown(alone)} from a word's end to its first caption")
        arrivals: dict[str, list[float]] = defaultdict(list)
        viewers = await gather_viewers(port, n_viewers, arrivals)
        watched = await speak(port, seconds)
        print(f"speaker before {n_viewers:5d}:     {shown(watched)}")
        await all_arrived(arrivals, n_viewers)
        report(arrivals, n_viewers)
        for viewer in viewers:
            viewer.cancel()
        await asyncio.gather(*viewers, return_exceptions=True)


def socket_to(port: int, path: str) -> connect:
    """A connection to a path of the daemon, not opened yet."""
    address = f"ws://127.0.0.1:{port}{path}"
    return connect(address, subprotocols=[Subprotocol("captions.v1")], compression=None, proxy=None, open_timeout=60)


async def gather_viewers(port: int, n: int, arrivals: dict[str, list[float]]) -> list[asyncio.Task[None]]:
    """
    Let viewers join the room, fifty at a time.

    Args:
        port: Of the daemon.
        n: Number of viewers.
        arrivals: Takes when each message came, once for each viewer.
    """
    viewers = []
    for start in range(0, n, 50):
        sockets = await asyncio.gather(*(socket_to(port, "/v1/watch/stage") for _ in range(min(50, n - start))))
        viewers += [asyncio.create_task(view(socket, arrivals)) for socket in sockets]
    return viewers


async def view(socket: ClientConnection, arrivals: dict[str, list[float]]) -> None:
    """Note when each message comes, until cancelled."""
    async for message in socket:
        arrivals[str(message)].append(time.perf_counter())


async def speak(port: int, seconds: float) -> list[float]:
    """Speak for some seconds; for each word the time from its end to the first caption that shows it at its place."""
    pcm = pcm16(np.resize(read_audio(RECORDING), int(seconds * SAMPLE_RATE)))
    delays: list[float] = []
    async with socket_to(port, "/v1/captions?room=stage") as speaker:
        await speaker.send(json.dumps({"type": "start", "language": "en"}))
        while json.loads(await speaker.recv())["type"] != "started":
            pass
        begun = time.perf_counter()
        sending = asyncio.create_task(send(speaker, pcm))
        turn, n_shown = -1, 0
        async for message in speaker:
            event = json.loads(message)
            if event["type"] != "caption":
                continue
            if event["turn"] != turn:
                turn, n_shown = event["turn"], 0
            now_s = time.perf_counter() - begun
            delays += [now_s - word["end_s"] for word in event["words"][n_shown:]]
            n_shown = max(n_shown, len(event["words"]))
        await sending
    return delays


async def send(speaker: ClientConnection, pcm: NDArray[np.int16]) -> None:
    """Send a recording, (n,), in real time, then the end."""
    async for chunk in paced(pcm):
        await speaker.send(chunk)
    await speaker.send('{"type":"end"}')


async def all_arrived(arrivals: dict[str, list[float]], n_viewers: int) -> None:
    """Wait until the newest message has reached every viewer, at most 20 s."""
    for _ in range(200):
        if len(next(reversed(arrivals.values()), [])) >= n_viewers:
            return
        await asyncio.sleep(0.1)


def report(arrivals: dict[str, list[float]], n_viewers: int) -> None:
    """Print delays behind the first viewer, and how many viewers had the turn ends: slow ones skip old captions."""
    spoken = {text: times for text, times in arrivals.items() if '"type":"room"' not in text}
    delays = [at - min(times) for times in spoken.values() for at in times]
    ends = [len(times) for text, times in spoken.items() if '"type":"turn_end"' in text]
    print(f"fan-out to {n_viewers:5d} viewers:  {shown(delays)} behind the first")
    print(f"{len(spoken)} messages; every turn's end reached {min(ends, default=0)} to {max(ends, default=0)} viewers")


def shown(delays: list[float]) -> str:
    """Median and 95th percentile in milliseconds."""
    p50_ms, p95_ms = (1000 * percentile(delays or [0.0], p) for p in (50, 95))
    return f"P50 {p50_ms:6.0f} ms, P95 {p95_ms:6.0f} ms"


if __name__ == "__main__":
    program(main)
