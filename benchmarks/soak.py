"""
Hours of mixed sessions against a daemon process on loopback: leaks, delays and broken promises of the protocol.

    python -m benchmarks.soak MANIFEST [--minutes 60] [--sessions 8] [--model tiny.en] [--json OUT]

Each speaker speaks recordings in real time. At random it leaves, loses its connection and resumes, comes back later,
flushes, or changes its options; a speaker that is refused tries again after the time that the daemon names. Printed
each minute and at the end: memory and its growth, descriptors, tasks, the delay of stable words in the first and in the
last tenth of the time, sessions, refusals, and every promise of the protocol that was broken. Exit code 1 if anything
is left open or broken. Use about 80 % of the capacity that `streamer bench` finds as number of sessions; three times
the capacity shows overload.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import re
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np
import psutil
from numpy.typing import NDArray
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidMessage, InvalidStatus

from benchmarks.arguments import number, program, results_file, whole
from benchmarks.common import CHUNK_S, argument_parser, paced, pcm16, read_recordings, some
from benchmarks.served import daemon, free_port, metrics
from streamer.audio.pcm import SAMPLE_RATE
from streamer.evaluation.manifest import read_manifest
from streamer.evaluation.percentiles import percentiles

SETTLE_S = 600.0
"""Time in which memory grows to its working size: left out of the growth."""


@dataclass
class Report:
    """Observations of the daemon and of its speakers."""

    started_s: float = field(default_factory=time.monotonic)
    samples: list[dict[str, float]] = field(default_factory=list)
    """Memory, descriptors, tasks and sessions of the daemon, one a minute."""
    delays: list[tuple[float, float]] = field(default_factory=list)
    """(when, seconds from the end of a word to the message that makes it stable)."""
    done: Counter[str] = field(default_factory=Counter)
    """How often speakers did or met each thing."""
    broken: list[str] = field(default_factory=list)
    """Promises of the protocol that were broken."""
    refusals: list[float] = field(default_factory=list)
    """Seconds until a new session was refused."""

    @property
    def now_s(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.started_s

    def growth(self) -> float:
        """Growth of memory after `SETTLE_S`, MB per hour by least squares; NaN of fewer than three samples."""
        points = [(s["at_s"], s["rss_mb"]) for s in self.samples if s["at_s"] >= SETTLE_S]
        if len(points) < 3:
            return float("nan")
        at, rss = np.array(points).T
        return float(np.polyfit(at / 3600, rss, 1)[0])

    def tenth(self, last: bool) -> dict[str, float]:
        """Number, median and 95th percentile of the delays in the first or the last tenth of the time."""
        end_s = self.now_s
        low, high = (0.9 * end_s, end_s) if last else (0.0, 0.1 * end_s)
        delays = [delay for at, delay in self.delays if low <= at <= high]
        return {"n": len(delays), **msgspec.to_builtins(percentiles(delays) or {})}


class Speaker:
    """Speaks one session after the other, for ever."""

    def __init__(self, port: int, clips: Sequence[NDArray[np.float32]], report: Report, seed: int) -> None:
        self._url = f"ws://127.0.0.1:{port}/v1/captions"
        self._clips, self._report = clips, report
        self._random = random.Random(seed)

    async def run(self) -> None:
        """Speak until cancelled."""
        while True:
            await self._session()
            await asyncio.sleep(self._random.uniform(0, 5))

    async def _session(self) -> None:
        clips = self._random.choices(self._clips, k=self._random.randint(1, 4))
        samples = np.concatenate([np.append(clip, np.zeros(SAMPLE_RATE, np.float32)) for clip in clips])
        session = Session(pcm16(samples), self._report, self._random)
        while not session.is_over:
            try:
                async with connect(self._url, compression=None, proxy=None, open_timeout=30) as connection:
                    await session.converse(connection)
            except InvalidStatus as refused:  # too many connections at once are refused before their request is read
                self._report.done[f"refused with {refused.response.status_code}"] += 1
                session.retry_s = float(refused.response.headers["retry-after"])
            except (OSError, TimeoutError, ConnectionClosed, InvalidMessage):
                self._report.done["reconnects"] += 1
                session.retry_s = session.retry_s or self._random.uniform(0.1, 3)
            await asyncio.sleep(session.retry_s)


class Session:
    """One session of a speaker, over one connection or several."""

    def __init__(self, pcm: NDArray[np.int16], report: Report, random_: random.Random) -> None:
        self.is_over = False
        self.retry_s = 0.0
        """Time that the daemon asks a refused client to wait."""
        self._pcm, self._report, self._random = pcm, report, random_
        self._identity: dict[str, str] | None = None
        self._stable_s = 0.0
        self._settled_s = 0.0
        """End of the last word whose delay was noted."""
        self._stable: dict[int, str] = {}
        self._began_s = 0.0
        self._sent: dict[int, float] = {}
        """When each chunk was sent, by its number."""

    async def converse(self, connection: ClientConnection) -> None:
        """Use one connection until it is lost or refused, or the session is over."""
        self._began_s, self.retry_s = time.monotonic(), 0.0
        start: dict[str, Any] = {"type": "start", "language": "en"}
        if self._identity:
            start["resume"] = {**self._identity, "stable_s": self._stable_s}
        await connection.send(json.dumps(start))
        sending: asyncio.Task[None] | None = None
        try:
            async for frame in connection:
                message = json.loads(frame)
                if message["type"] == "started":
                    sending = asyncio.create_task(self._speak(connection, self._adopt(message)))
                self.receive(message)
        finally:
            if sending:
                sending.cancel()
                await asyncio.gather(sending, return_exceptions=True)

    def _adopt(self, started: dict[str, Any]) -> int:
        identity = {"session": started["session"], "token": started["resume"]}
        if self._identity:
            self._report.done["resumed" if identity == self._identity else "continued elsewhere"] += 1
        if identity != self._identity:
            self._stable = {}
        self._identity = identity
        return round(float(started["resume_from_s"]) / CHUNK_S)

    async def _speak(self, connection: ClientConnection, first: int) -> None:
        n = first
        async for chunk in paced(self._pcm, first):
            await connection.send(chunk)
            self._sent[n] = time.monotonic()
            await self._interfere(connection)
            n += 1
        await connection.send('{"type":"end"}')

    async def _interfere(self, connection: ClientConnection) -> None:
        """At random do something else than send audio, about every twenty seconds."""
        match self._random.randrange(800):
            case 0:
                self._report.done["drops"] += 1
                connection.transport.abort()
            case 1:
                self._report.done["leaves"] += 1
                self.is_over = True
                await connection.close()
            case 2:
                self._report.done["flushes"] += 1
                await connection.send('{"type":"flush","id":1}')
            case 3:
                self._report.done["updates"] += 1
                keyterms = ["Ray Serve"] if self._random.random() < 0.5 else []
                await connection.send(json.dumps({"type": "update", "keyterms": keyterms, "endpoint_ms": 700}))

    def receive(self, message: dict[str, Any]) -> None:
        """Take a message of the daemon, and check what it promises."""
        match message["type"]:
            case "caption":
                self._see(message["turn"], message["stable"])
                self._settle(message["words"])
            case "turn_end":
                self._see(message["turn"], message["text"])
                self._settle(message.get("words", ()))
            case "ack":
                self._stable_s = max(self._stable_s, message["stable_s"])
            case "error":
                self._report.done[f"error {message['code']}"] += 1
                self.retry_s = message.get("retry_after_s", 0.0)
                if self.retry_s:
                    self._report.refusals.append(time.monotonic() - self._began_s)
            case "bye":
                self.is_over = True
                self._report.done["sessions"] += 1
                if abs(message["audio_s"] - len(self._pcm) / SAMPLE_RATE) > 0.05:
                    self._report.broken.append(f"{message['audio_s']} s of {len(self._pcm) / SAMPLE_RATE} s heard")

    def _see(self, turn: int, stable: str) -> None:
        before, now = _plain(self._stable.get(turn, "")), _plain(stable)
        if now[: len(before)] != before:
            self._report.broken.append(f"stable {self._stable[turn]!r} became {stable!r}")
        self._stable[turn] = stable

    def _settle(self, words: Sequence[dict[str, Any]]) -> None:
        """Note the delay of each word that is stable now and was not before."""
        for word in words:
            if word["stable"] and word["end_s"] > self._settled_s + 0.001:
                self._settled_s = word["end_s"]
                self._stable_s = max(self._stable_s, self._settled_s)
                self._note_delay(self._settled_s)

    def _note_delay(self, end_s: float) -> None:
        n = int(end_s / CHUNK_S)
        if n in self._sent:
            # a chunk is sent when its last sample has been spoken
            said = self._sent[n] - ((n + 1) * CHUNK_S - end_s)
            self._report.delays.append((self._report.now_s, time.monotonic() - said))


def _plain(text: str) -> list[str]:
    return re.sub(r"[^\w]+", " ", text.lower()).split()


async def sample(process: psutil.Process, port: int, report: Report) -> None:
    """
    Add memory, descriptors, tasks and sessions of the daemon to a report, and print them.

    Args:
        process: Of the daemon.
        port: Of the daemon.
        report: Takes the sample.
    """
    found = await metrics(port)
    seen = {
        "at_s": round(report.now_s, 1),
        "rss_mb": round(process.memory_info().rss / 2**20, 1),
        "fds": process.num_fds(),
        "threads": process.num_threads(),
        "tasks": found["streamer_tasks"],
        "sessions": found["streamer_sessions"],
        "lag_s": round(found["streamer_lag_seconds"], 2),
    }
    report.samples.append(seen)
    print("  ".join(f"{name} {value:g}" for name, value in seen.items()), flush=True)


async def soak(args: argparse.Namespace) -> Report:
    """Run all speakers for the time asked for, then look at what is left once all sessions are over."""
    rows = some([row for row in read_manifest(args.manifest) if row.text], args.manifest, "with a text")
    clips = [clip for clip in read_recordings(args.manifest, rows) if len(clip) < 60 * SAMPLE_RATE]
    report = Report()
    port = free_port()
    async with daemon(port, "--model", args.model) as process:
        await sample(process, port, report)
        report.started_s = time.monotonic()
        speakers = [asyncio.create_task(Speaker(port, clips, report, seed).run()) for seed in range(args.sessions)]
        while report.now_s < args.minutes * 60:
            await asyncio.wait(speakers, timeout=min(60.0, args.minutes * 60 - report.now_s))
            await sample(process, port, report)
            for speaker in speakers:
                if speaker.done():
                    speaker.result()
        for speaker in speakers:
            speaker.cancel()
        await asyncio.gather(*speakers, return_exceptions=True)
        await asyncio.sleep(args.settle)  # sessions without a connection are kept for resume_s
        await sample(process, port, report)
    return report


def main() -> None:
    """Print a line each minute, then the figures as JSON."""
    arguments = argument_parser(__doc__)
    arguments.add_argument("--minutes", type=number(0.001), default=60.0)
    arguments.add_argument("--sessions", type=whole(), default=8)
    arguments.add_argument(
        "--settle", type=number(), default=45.0, help="seconds after the last session; above resume_s"
    )
    arguments.add_argument("--json", type=results_file)
    args = arguments.parse_args()
    report = asyncio.run(soak(args))
    first, last = report.samples[0], report.samples[-1]
    left = {name: last[name] - first[name] for name in ("fds", "tasks", "sessions")}
    summary = {
        "minutes": args.minutes,
        "speakers": args.sessions,
        "done": dict(report.done),
        "memory_mb_per_hour": round(report.growth(), 2),
        "left": left,
        "delay_first_tenth_s": report.tenth(last=False),
        "delay_last_tenth_s": report.tenth(last=True),
        "slowest_refusal_s": round(max(report.refusals, default=0.0), 3),
        "broken": report.broken,
    }
    print(json.dumps(summary, indent=2))
    if args.json:
        args.json.write_text(json.dumps({**summary, "samples": report.samples}, indent=1) + "\n")
    sys.exit(bool(report.broken or left["sessions"] or left["tasks"] > 0 or left["fds"] > 2))


if __name__ == "__main__":
    program(main)
