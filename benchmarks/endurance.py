"""
Hours of speech through one session: word error rate, growth of memory, turns, and processor time from first to last.

    python -m benchmarks.endurance MANIFEST [--model tiny.en] [--hours 1] [--pause 1] [--guests 0]

Recordings of kind "long" are looped, as fast as the session takes them, through the same scheduler and engine that
serve live streams. `--pause` is the mean silence between two recordings, seconds. `--guests` is the number of short
sessions an hour beside it, each with a recording of kind "short". A day of an office, in half an hour:

    python -m benchmarks.endurance MANIFEST --hours 24 --pause 600 --guests 60
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil
from numpy.typing import NDArray

from benchmarks.arguments import number, program
from benchmarks.common import argument_parser, read_recordings, some, word_errors
from streamer.audio.pcm import SAMPLE_RATE
from streamer.build.service import build
from streamer.config import Config, ModelConfig
from streamer.evaluation.manifest import ManifestRow, read_manifest
from streamer.evaluation.playback import CHUNK_S, transcribe_live
from streamer.host.memory import give_back
from streamer.protocol.events import TurnEnd
from streamer.protocol.options import SessionOptions
from streamer.scheduling.scheduler import Scheduler, running
from streamer.scheduling.session_handle import SessionHandle

REPORTS = 12
"""Lines of the report."""
SETTLED = 4
"""Lines of the report after which memory has grown to its working size."""
OPTIONS = SessionOptions(language="en")


@dataclass(frozen=True, slots=True)
class Clip:
    """A recording and its reference."""

    samples: NDArray[np.float32]
    text: str

    @property
    def duration_s(self) -> float:
        """Length of the recording."""
        return len(self.samples) / SAMPLE_RATE


@dataclass(slots=True)
class Endurance:
    """One long session, guests beside it, and the memory of the process."""

    hours: float
    pause_s: float
    clips: Sequence[Clip]
    guests: Sequence[Clip]
    guests_an_hour: float
    said: list[str] = field(default_factory=list)
    turns: list[TurnEnd] = field(default_factory=list)
    spoken_s: float = 0.0
    """Speech that was fed, that of guests included."""
    n_guests: int = 0
    memory: list[tuple[float, float]] = field(default_factory=list)
    """Hours of stream time, MB."""

    async def run(self, scheduler: Scheduler) -> None:
        """Feed the session and its guests until the session has ended."""
        async with running(scheduler), asyncio.TaskGroup() as group:
            stream, chance, next_guest_s = scheduler.open(OPTIONS), random.Random(1), 0.0
            feeding = group.create_task(self._feed(stream))
            async for event in stream:
                if isinstance(event, TurnEnd):
                    self.turns.append(event)
                if self.guests_an_hour and stream.received_s >= next_guest_s:
                    group.create_task(self._visit(scheduler.open(OPTIONS), chance.choice(self.guests)))
                    next_guest_s += 3600 / self.guests_an_hour
            await feeding

    async def _feed(self, stream: SessionHandle) -> None:
        every_s = self.hours * 3600 / REPORTS
        log = ResourceLog(self)
        n = round(CHUNK_S * SAMPLE_RATE)
        for clip, samples in self._programme():
            for at in range(0, len(samples), n):
                await stream.feed(samples[at : at + n])
                if stream.received_s >= (log.n + 1) * every_s:
                    log.add(stream.received_s)
            self.said.append(clip.text)
            self.spoken_s += clip.duration_s
        stream.end()

    def _programme(self) -> Iterator[tuple[Clip, NDArray[np.float32]]]:
        """Recordings, each with the silence behind it, for `hours`."""
        chance, done_s = random.Random(0), 0.0
        for clip in itertools.cycle(self.clips):
            pause_s = 1.0 + (chance.expovariate(1 / (self.pause_s - 1)) if self.pause_s > 1 else 0.0)
            yield clip, np.append(clip.samples, np.zeros(round(pause_s * SAMPLE_RATE), np.float32))
            done_s += clip.duration_s + pause_s
            if done_s >= self.hours * 3600:
                return

    async def _visit(self, stream: SessionHandle, clip: Clip) -> None:
        await transcribe_live(stream, clip.samples, realtime=False)
        self.spoken_s += clip.duration_s
        self.n_guests += 1

    def slope(self) -> tuple[float, float]:
        """Growth of memory once it has settled, MB per hour of stream time, and its standard error."""
        at, mb = np.array(self.memory[SETTLED:]).T
        (slope, _), covariance = np.polyfit(at, mb, 1, cov=True)
        return float(slope), float(covariance[0, 0] ** 0.5)


class ResourceLog:
    """Memory, processor time, descriptors and tasks of this process, one line at a time."""

    def __init__(self, endurance: Endurance) -> None:
        self.n = 0
        self._endurance, self._process = endurance, psutil.Process()
        self._cpu_s, self._spoken_s = self._now_s(), 0.0

    def add(self, received_s: float) -> None:
        """Print a line after so many seconds of stream time."""
        give_back()  # the daemon does so every minute
        mb, cpu_s, spoken_s = self._process.memory_info().rss / 2**20, self._now_s(), self._endurance.spoken_s
        cost = (cpu_s - self._cpu_s) / max(1.0, spoken_s - self._spoken_s)
        self.n, self._cpu_s, self._spoken_s = self.n + 1, cpu_s, spoken_s
        self._endurance.memory.append((received_s / 3600, mb))
        print(
            f"{received_s / 3600:6.2f} h  rss {mb:.0f} MB  {1e3 * cost:.1f} ms of CPU per second of speech  "
            f"{self._endurance.n_guests} guests  {self._process.num_fds()} descriptors  "
            f"{len(asyncio.all_tasks())} tasks",
            flush=True,
        )

    def _now_s(self) -> float:
        times = self._process.cpu_times()
        return float(times.user + times.system)


def main() -> None:
    """Print `REPORTS` lines while the session lasts, then the totals."""
    arguments = argument_parser(__doc__)
    arguments.add_argument("--hours", type=number(0.001), default=1.0)
    arguments.add_argument("--pause", type=number(), default=1.0)
    arguments.add_argument("--guests", type=number(), default=0.0)
    args = arguments.parse_args()
    rows = read_manifest(args.manifest)
    clips = _clips(args.manifest, [row for row in rows if row.kind == "long" and "silence" not in row.id], "long")
    guests = _clips(args.manifest, [row for row in rows if row.kind == "short"], "short") if args.guests else []
    service = build(Config(model=ModelConfig(name=args.model)))
    endurance = Endurance(args.hours, args.pause, clips, guests, args.guests)
    asyncio.run(endurance.run(service.scheduler))
    _report(endurance)


def _clips(manifest: Path, rows: list[ManifestRow], kind: str) -> list[Clip]:
    recordings = read_recordings(manifest, some(rows, manifest, f"with kind {kind}"))
    return [Clip(samples, row.text) for row, samples in zip(rows, recordings, strict=True)]


def _report(endurance: Endurance) -> None:
    turns = endurance.turns
    errors = word_errors([" ".join(endurance.said)], [" ".join(turn.text for turn in turns)])
    longest_s = max(turn.end_s - turn.start_s for turn in turns)
    slope, error = endurance.slope()
    print(f"{endurance.hours:g} h, {len(turns)} turns, longest {longest_s:.1f} s; {endurance.n_guests} guests")
    print(f"memory grows by {slope:.1f} MB an hour, standard error {error:.1f}")
    print(
        f"word error rate {100 * errors.rate:.2f} %: {errors.substituted} substitutions, {errors.missing} "
        f"deletions, {errors.added} insertions in {errors.words} words"
    )


if __name__ == "__main__":
    program(main)
