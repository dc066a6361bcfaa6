"""
Hours of mixed sessions against a daemon process on loopback, and whether it is at the end what it was at the start.

    python -m benchmarks.soak MANIFEST [--minutes 60] [--sessions 8] [--model tiny.en] [--json OUT]

Each speaker says recordings in real time and at random leaves, loses its connection and resumes, comes back later,
flushes, or changes its options; one who is refused comes again when the daemon said. Printed each minute and at the
end: memory and its slope, descriptors, tasks, the delay of stable words in the first and in the last tenth, sessions,
refusals, and every promise of the protocol that was broken. Exit code 1 if anything is left open or broken. Sessions
should be about 80 % of the capacity that `streamer bench` finds; three times that capacity shows what overload does.
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
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import psutil
from numpy.typing import NDArray
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidMessage, InvalidStatus

from benchmarks.served import daemon, free_port, metrics, pcm16
from streamer.audio.files import read_audio
from streamer.evaluation.manifest import read_manifest
from streamer.evaluation.percentiles import percentiles

RATE = 16_000
CHUNK_S = 0.1
SETTLE_S = 600.0
"""Before it the memory grows to its working size: not part of the slope."""


@dataclass
class Report:
    """What is seen of the daemon, and by its speakers."""

    started_s: float = field(default_factory=time.monotonic)
    samples: list[dict[str, float]] = field(default_factory=list)
    delays: list[tuple[float, float]] = field(default_factory=list)
    """(when, seconds from the end of a word to its being stable here)."""
    done: Counter[str] = field(default_factory=Counter)
    broken: list[str] = field(default_factory=list)
    refusals: list[float] = field(default_factory=list)
    """Seconds until a new session was refused."""

    @property
    def now_s(self) -> float:
        """Since the start."""
        return time.monotonic() - self.started_s

    def slope(self) -> float:
        """AppendOnlyText of the memory after `SETTLE_S`, MB an hour: least squares."""
        points = [(s["at_s"], s["rss_mb"]) for s in self.samples if s["at_s"] >= SETTLE_S]
        if len(points) < 3:
            return float("nan")
        at, rss = np.array(points).T
        return float(np.polyfit(at / 3600, rss, 1)[0])

    def tenth(self, last: bool) -> dict[str, float]:
        """Delays in the first or the last tenth of the time."""
        end_s = self.now_s
        low, high = (0.9 * end_s, end_s) if last else (0.0, 0.1 * end_s)
        delays = [delay for at, delay in self.delays if low <= at <= high]
        return {"n": len(delays), **msgspec.to_builtins(percentiles(delays) or {})}


class Speaker:
    """One place at the microphone: sessions after one another, for ever."""

    def __init__(self, port: int, clips: Sequence[NDArray[np.float32]], report: Report, seed: int) -> None:
        self._url = f"ws://127.0.0.1:{port}/v1/captions"
        self._clips, self._report = clips, report
        self._random = random.Random(seed)

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._session()
            await asyncio.sleep(self._random.uniform(0, 5))

    async def _session(self) -> None:
        clips = self._random.choices(self._clips, k=self._random.randint(1, 4))
        samples = np.concatenate([np.append(clip, np.zeros(RATE, np.float32)) for clip in clips])
        session = Session(pcm16(samples), self._report, self._random)
        while not session.is_over:
            try:
                async with connect(self._url, compression=None, proxy=None, open_timeout=30) as connection:
                    await session.converse(connection)
            except InvalidStatus as refused:  # too many come at once, before the daemon looks at what they want
                self._report.done[f"refused with {refused.response.status_code}"] += 1
                session.retry_s = float(refused.response.headers["retry-after"])
            except (OSError, TimeoutError, ConnectionClosed, InvalidMessage):
                self._report.done["reconnects"] += 1
                session.retry_s = session.retry_s or self._random.uniform(0.1, 3)
            await asyncio.sleep(session.retry_s)


class Session:
    """What a speaker says once, over one connection or several."""

    def __init__(self, pcm: NDArray[np.int16], report: Report, random_: random.Random) -> None:
        self.is_over = False
        self.retry_s = 0.0
        """How long the daemon wants to be left alone."""
        self._pcm, self._report, self._random = pcm, report, random_
        self._identity: dict[str, str] | None = None
        self._stable_s = 0.0
        self._stable: dict[int, str] = {}
        self._began_s = 0.0
        self._sent: dict[int, float] = {}  # tenth of a second of stream time -> when it was sent

    async def converse(self, connection: ClientConnection) -> None:
        """One connection, until it is lost or refused or the session over."""
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
                self._receive(message)
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
        return round(started["resume_from_s"] / CHUNK_S)

    async def _speak(self, connection: ClientConnection, first: int) -> None:
        size = round(RATE * CHUNK_S)
        due_s = time.monotonic()
        for n in range(first, -(-len(self._pcm) // size)):
            await connection.send(self._pcm[n * size : (n + 1) * size].tobytes())
            self._sent[n] = time.monotonic()
            await self._whim(connection)
            due_s += CHUNK_S
            await asyncio.sleep(max(0.0, due_s - time.monotonic()))
        await connection.send('{"type":"end"}')

    async def _whim(self, connection: ClientConnection) -> None:
        """Now and then something else than audio; all together about every twenty seconds."""
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

    def _receive(self, message: dict[str, Any]) -> None:
        match message["type"]:
            case "caption":
                self._see(message["turn"], message["stable"])
                for word in message["words"]:
                    if word["stable"] and word["end_s"] > self._stable_s + 0.001:
                        self._settle(word["end_s"])
            case "turn_end":
                self._see(message["turn"], message["text"])
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
                if abs(message["audio_s"] - len(self._pcm) / RATE) > 0.05:
                    self._report.broken.append(f"{message['audio_s']} s of {len(self._pcm) / RATE} s heard")

    def _see(self, turn: int, stable: str) -> None:
        before, now = _plain(self._stable.get(turn, "")), _plain(stable)
        if now[: len(before)] != before:
            self._report.broken.append(f"stable {self._stable[turn]!r} became {stable!r}")
        self._stable[turn] = stable

    def _settle(self, end_s: float) -> None:
        self._stable_s = end_s
        sent = self._sent.get(int(end_s / CHUNK_S))
        if sent is not None:
            self._report.delays.append((self._report.now_s, time.monotonic() - sent))


def _plain(text: str) -> list[str]:
    return re.sub(r"[^\w]+", " ", text.lower()).split()


async def sample(process: psutil.Process, port: int, report: Report) -> None:
    """Look at the daemon once."""
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
    """Everything, then what is left once all have gone."""
    rows = [row for row in read_manifest(args.manifest) if row.text]
    clips = [read_audio(args.manifest.parent / row.file) for row in rows]
    clips = [clip for clip in clips if len(clip) < 60 * RATE]
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
        await asyncio.sleep(args.settle)  # sessions without a connection are kept for so long
        await sample(process, port, report)
    return report


def main() -> None:
    """Run, and say what came of it."""
    arguments = argparse.ArgumentParser()
    arguments.add_argument("manifest", type=Path)
    arguments.add_argument("--minutes", type=float, default=60.0)
    arguments.add_argument("--sessions", type=int, default=8)
    arguments.add_argument("--model", default="tiny.en")
    arguments.add_argument("--settle", type=float, default=45.0, help="seconds after the last session; above resume_s")
    arguments.add_argument("--json", type=Path)
    args = arguments.parse_args()
    report = asyncio.run(soak(args))
    first, last = report.samples[0], report.samples[-1]
    left = {name: last[name] - first[name] for name in ("fds", "tasks", "sessions")}
    summary = {
        "minutes": args.minutes,
        "speakers": args.sessions,
        "done": dict(report.done),
        "memory_mb_per_hour": round(report.slope(), 2),
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
    main()
