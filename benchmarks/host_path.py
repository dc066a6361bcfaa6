"""
Processor time of the daemon at 1, 8 and 32 streams: event loop, front end, encoder, decoder.

    python -m benchmarks.host_path MANIFEST [--streams 1,8,32] [--seconds 40] [--model tiny.en] [--free]

The daemon runs as a process of its own on loopback, and this process sends it speech in real time. The kernel counts
the processor time of each thread of the daemon: the first thread is the event loop, with WebSockets, sessions and JSON;
the busiest others are the workers. The daemon itself times what the workers do, so those figures include waits for each
other and for a processor. All figures are milliseconds per second of audio.

With `--free` the daemon is a gateway of engine processes, and its engine costs nothing: what is left is its own work.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence

import numpy as np
import psutil
from numpy.typing import NDArray
from websockets.asyncio.client import ClientConnection, connect

from benchmarks.arguments import listed, number, program, whole
from benchmarks.common import CHUNK_S, argument_parser, paced, pcm16, read_recordings, some
from benchmarks.served import daemon, free_port, metrics
from streamer.audio.pcm import SAMPLE_RATE
from streamer.evaluation.manifest import read_manifest
from streamer.host.cpu import physical_cores

WARM_UP_S = 10.0
"""Speech before the measurement."""


def main() -> None:
    """Print a row for each number of streams."""
    arguments = argument_parser(__doc__)
    arguments.add_argument("--streams", type=listed(whole()), default="1,8,32")
    arguments.add_argument("--seconds", type=number(0.1), default=40.0)
    arguments.add_argument("--free", action="store_true", help="a gateway, whose engine costs nothing")
    args = arguments.parse_args()
    rows = some([r for r in read_manifest(args.manifest) if r.kind == "short"], args.manifest, "with kind short")
    speech = np.concatenate(read_recordings(args.manifest, rows))
    print("streams  event loop  workers  others | front end  encoder  decoder, rest of step | messages")
    for n in args.streams:
        module = "benchmarks.free_engine" if args.free else "streamer"
        print(asyncio.run(measure(n, speech, args.seconds, args.model, module)), flush=True)


async def measure(n: int, speech: NDArray[np.float32], seconds: float, model: str, module: str) -> str:
    """
    A row of the table.

    Args:
        n: Number of streams; each has its own part of the speech.
        speech: (n_samples,), mono at 16 kHz.
        seconds: Length of the measurement.
        model: Name of the model.
        module: The daemon's.
    """
    port = free_port()
    pcm = pcm16(speech)
    variables = {"STREAMER_SCHEDULER_MAX_SESSIONS": str(n), "STREAMER_ENGINES_COUNT": "1"}
    async with daemon(port, "--model", model, module=module, variables=variables) as process:
        parts = [np.roll(pcm, -i * len(pcm) // n) for i in range(n)]
        speakers = [asyncio.create_task(speak(port, part, WARM_UP_S + seconds)) for part in parts]
        await asyncio.sleep(WARM_UP_S)
        before = await Counters.read(process, port)
        await asyncio.sleep(seconds - 1)
        after = await Counters.read(process, port)
        n_messages = sum(await asyncio.gather(*speakers))
    return _row(n, after.since(before), n_messages / (WARM_UP_S + seconds) / n)


class Counters:
    """The daemon's counters at one moment."""

    def __init__(self, threads: dict[int, float], metrics: dict[str, float]) -> None:
        self.threads, self.metrics = threads, metrics

    @classmethod
    async def read(cls, process: psutil.Process, port: int) -> Counters:
        """The counters of now."""
        threads = {thread.id: thread.user_time + thread.system_time for thread in process.threads()}
        return cls(threads, await metrics(port))

    def since(self, before: Counters) -> Counters:
        """What was counted since."""
        return Counters(
            {id_: s - before.threads.get(id_, 0.0) for id_, s in self.threads.items()},
            {name: value - before.metrics.get(name, 0.0) for name, value in self.metrics.items()},
        )


def _row(n: int, counted: Counters, messages_per_s: float) -> str:
    sound_s = counted.metrics["streamer_audio_seconds_total"]
    event_loop, *others = [1e3 * counted.threads[id_] / sound_s for id_ in sorted(counted.threads)]
    others.sort(reverse=True)
    n_workers = physical_cores()
    listen, encoder, step = (
        counted.metrics[f"{name}_sum"] / sound_s
        for name in ("streamer_listen_latency_ms", "whisper_encoder_forward_latency_ms", "streamer_step_latency_ms")
    )
    return (
        f"{n:7d}  {event_loop:10.1f}  {sum(others[:n_workers]):5.1f}  {sum(others[n_workers:]):6.1f} | {listen:9.1f}  "
        f"{encoder:7.1f}  {step - encoder:21.1f} | {messages_per_s:.1f} a second to each"
    )


async def speak(port: int, pcm: NDArray[np.int16], seconds: float) -> int:
    """
    Speak a recording over and over in real time; returns the number of messages received.

    Args:
        port: Of the daemon.
        pcm: (n_samples,), mono at 16 kHz.
        seconds: Length of the stream.
    """
    async with connect(f"ws://127.0.0.1:{port}/v1/captions", compression=None, proxy=None) as connection:
        await connection.send('{"type":"start","language":"en"}')
        sending = asyncio.create_task(_send(connection, pcm, seconds))
        messages: Sequence[object] = [json.loads(frame) async for frame in connection]
        await sending
    return len(messages)


async def _send(connection: ClientConnection, pcm: NDArray[np.int16], seconds: float) -> None:
    n_chunks = round(seconds / CHUNK_S)
    async for chunk in paced(np.resize(pcm, round(n_chunks * CHUNK_S * SAMPLE_RATE))):
        await connection.send(chunk)
    await connection.send('{"type":"end"}')


if __name__ == "__main__":
    program(main)
