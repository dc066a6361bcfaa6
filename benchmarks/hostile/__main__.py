"""
Attacks a daemon on loopback, each attack beside an honest stream with a key of its own.

    python -m benchmarks.hostile MANIFEST [--only NAME] [--seconds 8] [--model tiny.en]

For each attack is printed: how late the captions of the honest stream came (P95; the first line says how late alone),
how long the event loop was held (upper edge of a bucket of `streamer_loop_held_seconds`), how much memory the daemon
took, and kept after `--settle` seconds, places that were not given back, bytes and tracebacks in its log. Nothing but
this machine is attacked.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
from numpy.typing import NDArray
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

from benchmarks import served
from benchmarks.common import argument_parser, paced, pcm16, read_recordings
from benchmarks.hostile.attacks import ATTACKS, KEY, Attack
from streamer.evaluation.manifest import read_manifest
from streamer.evaluation.percentiles import percentile

HONEST = "honest-honest-honest-key"
HEADERS = {"Authorization": f"Bearer {HONEST}"}


@dataclass(frozen=True, slots=True)
class State:
    """What a daemon had used up at one moment."""

    memory_mb: float
    n_sessions: float
    n_log_bytes: int
    n_tracebacks: int
    held: dict[str, float]
    """Holds of the loop, by the upper edge of their bucket."""


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
    held = re.findall(r'^streamer_loop_held_seconds_bucket\{le="(\S+)"\} (\S+)$', text, re.MULTILINE)
    lines = await asyncio.to_thread(Path(f"/proc/{process.pid}/fd/2").read_bytes)
    return State(
        memory_mb=memory_mb(process),
        n_sessions=float(sessions[1]) if sessions else float("nan"),
        n_log_bytes=len(lines),
        n_tracebacks=lines.count(b"Traceback"),
        held={edge: float(count) for edge, count in held},
    )


def longest_hold(before: State, after: State) -> str:
    """The upper edge of the bucket of the longest new hold, in seconds."""
    edges = [edge for edge, count in after.held.items() if count < after.held.get("+Inf", 0.0)]
    n_new = after.held.get("+Inf", 0.0) - before.held.get("+Inf", 0.0)
    if not n_new:
        return "< 0.05"
    inside = [edge for edge in after.held if after.held[edge] - before.held.get(edge, 0.0) == n_new]
    return f"< {inside[0]}" if inside and inside[0] != "+Inf" else f"> {edges[-1] if edges else 10}"


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


async def attacked(attack: Attack, port: int, process: psutil.Process, pcm: NDArray[np.int16], settle_s: float) -> str:
    """Run one attack beside an honest stream, in a process of its own; return its row of the table."""
    before = await state(port, process)
    seconds = str(len(pcm) / 16_000)
    # of its own, without the libraries of this one: loading them would be the attack
    command = ("-m", "benchmarks.hostile.attacks", attack.name, str(port), seconds)
    attacker = await asyncio.create_subprocess_exec(sys.executable, *command)
    watching = asyncio.create_task(_most_memory(process))
    late_s = await honest(port, pcm)
    await attacker.wait()
    watching.cancel()
    most_mb = (await asyncio.gather(watching, return_exceptions=True))[0]
    await asyncio.sleep(settle_s)
    after = await state(port, process)
    p95 = f"{percentile(late_s, 95):.2f}" if late_s else "none"
    took = f"{most_mb - before.memory_mb:.0f}" if isinstance(most_mb, float) else "?"
    counts = (
        after.memory_mb - before.memory_mb,
        after.n_sessions - before.n_sessions,
        after.n_log_bytes - before.n_log_bytes,
        after.n_tracebacks - before.n_tracebacks,
    )
    cells = [attack.name, p95, longest_hold(before, after), took, *(f"{count:.0f}" for count in counts)]
    return f"| {' | '.join(cells)} |"


async def _most_memory(process: psutil.Process) -> float:
    most = 0.0
    try:
        while True:
            most = max(most, await asyncio.to_thread(memory_mb, process))
            await asyncio.sleep(0.1)
    except asyncio.CancelledError:
        return most


async def attack_all(attacks: Sequence[Attack], pcm: NDArray[np.int16], model: str, settle_s: float) -> None:
    """Start a daemon with two keys, and print a row for each attack."""
    keys = Path(tempfile.mkdtemp()) / "keys"
    keys.write_text(f"honest {HONEST}\nhostile {KEY}\n")
    variables = {
        "STREAMER_SERVER_KEYS_FILE": str(keys),
        "STREAMER_SERVER_RESUME_S": "1",
        "STREAMER_SERVER_ROOMS": "true",
    }
    port = served.free_port()
    async with served.daemon(port, "--model", model, variables=variables) as process:
        alone = [await honest(port, pcm) for _ in range(2)][-1]
        print(f"alone: P95 {percentile(alone, 95):.2f} s\n")
        print("| attack | captions P95 s | loop held s | memory MB | kept MB | places lost | log bytes | tracebacks |")
        print("|---|---|---|---|---|---|---|---|")
        for attack in attacks:
            print(await attacked(attack, port, process, pcm, settle_s), flush=True)


def main() -> None:
    """Run the attacks."""
    parser = argument_parser(__doc__ or "")
    parser.add_argument("--only", help="the beginning of the name of an attack")
    parser.add_argument("--seconds", type=float, default=8.0, help="of each attack")
    parser.add_argument("--settle", type=float, default=3.0, help="seconds after which memory and places are counted")
    args = parser.parse_args()
    attacks = [attack for attack in ATTACKS if attack.name.startswith(args.only or "")]
    recordings = read_recordings(args.manifest, [row for row in read_manifest(args.manifest) if row.language == "en"])
    pcm = pcm16(np.resize(np.concatenate(recordings), int(args.seconds * 16_000)))
    asyncio.run(attack_all(attacks, pcm, args.model, args.settle))


if __name__ == "__main__":
    main()
