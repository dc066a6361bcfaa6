"""
Where the processor's time goes at 1, 8 and 32 streams: event loop, front end, encoder, decoder.

    python -m benchmarks.host_path MANIFEST [--streams 1,8,32] [--seconds 40] [--model tiny.en]

The daemon runs as it does in service, as a process of its own on loopback, and this process sends it speech in real
time. Processor time is what the kernel counts for each thread of the daemon: the first is the event loop, with
WebSockets, sessions and JSON; the busiest others are the workers. What those do is timed by the daemon itself,
so it holds what they waited for each other and for a processor. All in milliseconds for one second of sound.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import psutil
from numpy.typing import NDArray
from websockets.asyncio.client import ClientConnection, connect

from benchmarks.served import daemon, free_port, metrics, pcm16
from streamer.audio.files import read_audio
from streamer.audio.pcm import SAMPLE_RATE
from streamer.evaluation.manifest import read_manifest
from streamer.host.cpu import physical_cores

CHUNK_S = 0.1
WARM_UP_S = 10.0


def main() -> None:
    """Print a row for each number of streams."""
    arguments = argparse.ArgumentParser(description=__doc__.strip().splitlines()[0])
    arguments.add_argument("manifest", type=Path)
    arguments.add_argument("--streams", default="1,8,32")
    arguments.add_argument("--seconds", type=float, default=40.0)
    arguments.add_argument("--model", default="tiny.en")
    args = arguments.parse_args()
    rows = [row for row in read_manifest(args.manifest) if row.kind == "short"]
    speech = np.concatenate([read_audio(args.manifest.parent / row.file) for row in rows])
    print("streams  event loop  workers  others | front end  encoder  decoder, rest of step | messages")
    for n in map(int, args.streams.split(",")):
        print(asyncio.run(measure(n, speech, args.seconds, args.model)), flush=True)


async def measure(n: int, speech: NDArray[np.float32], seconds: float, model: str) -> str:
    """`n` streams for so long, each with its own part of the speech."""
    port = free_port()
    pcm = pcm16(speech)
    async with daemon(port, "--model", model, STREAMER_SCHEDULER_MAX_SESSIONS=str(n)) as process:
        parts = [np.roll(pcm, -i * len(pcm) // n) for i in range(n)]
        speakers = [asyncio.create_task(_speak(port, part, WARM_UP_S + seconds)) for part in parts]
        await asyncio.sleep(WARM_UP_S)
        before = await Look.at(process, port)
        await asyncio.sleep(seconds - 1)
        after = await Look.at(process, port)
        n_messages = sum(await asyncio.gather(*speakers))
    return _row(n, after.since(before), n_messages / (WARM_UP_S + seconds) / n)


class Look:
    """The daemon's counters at one moment."""

    def __init__(self, threads: dict[int, float], metrics: dict[str, float]) -> None:
        self.threads, self.metrics = threads, metrics

    @classmethod
    async def at(cls, process: psutil.Process, port: int) -> Look:
        """Now."""
        threads = {thread.id: thread.user_time + thread.system_time for thread in process.threads()}
        return cls(threads, await metrics(port))

    def since(self, before: Look) -> Look:
        """What was counted between the two."""
        return Look(
            {id_: s - before.threads.get(id_, 0.0) for id_, s in self.threads.items()},
            {name: value - before.metrics.get(name, 0.0) for name, value in self.metrics.items()},
        )


def _row(n: int, look: Look, messages_per_s: float) -> str:
    sound_s = look.metrics["streamer_audio_seconds_total"]
    event_loop, *others = [1e3 * look.threads[id_] / sound_s for id_ in sorted(look.threads)]
    others.sort(reverse=True)
    n_workers = physical_cores()
    listen, encoder, step = (
        look.metrics[f"{name}_sum"] / sound_s
        for name in ("streamer_listen_latency_ms", "whisper_encoder_forward_latency_ms", "streamer_step_latency_ms")
    )
    return (
        f"{n:7d}  {event_loop:10.1f}  {sum(others[:n_workers]):5.1f}  {sum(others[n_workers:]):6.1f} | {listen:9.1f}  "
        f"{encoder:7.1f}  {step - encoder:21.1f} | {messages_per_s:.1f} a second to each"
    )


async def _speak(port: int, pcm: NDArray[np.int16], seconds: float) -> int:
    """Say it over and over, in real time; messages that came back."""
    async with connect(f"ws://127.0.0.1:{port}/v1/captions", compression=None, proxy=None) as connection:
        await connection.send('{"type":"start","language":"en"}')
        sending = asyncio.create_task(_send(connection, pcm, seconds))
        messages: Sequence[object] = [json.loads(frame) async for frame in connection]
        await sending
    return len(messages)


async def _send(connection: ClientConnection, pcm: NDArray[np.int16], seconds: float) -> None:
    size, loop = round(CHUNK_S * SAMPLE_RATE), asyncio.get_running_loop()
    started = loop.time()
    for i, at in zip(range(round(seconds / CHUNK_S)), itertools.cycle(range(0, len(pcm) - size, size))):
        await connection.send(pcm[at : at + size].tobytes())
        await asyncio.sleep(max(0.0, started + (i + 1) * CHUNK_S - loop.time()))
    await connection.send('{"type":"end"}')


if __name__ == "__main__":
    main()
