"""
A day of mixed speech through eight sessions on a simulated clock, with an engine and a front end that cost nothing.

Scheduler, workers, sessions, journals, outboxes and rooms are the real ones. Audio is fed as fast as it is taken; one
second of it is one second of the clock. Each hour gives one row: processor time of a step on the host, memory, and the
longest length of every container that an object of the service holds. A row that grows with the hours is a fault.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import json
import queue
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
import whisper
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry
from torch import Tensor

from benchmarks.arguments import program, results_file, whole
from streamer.audio.frontend import Features, FeatureState
from streamer.audio.pcm import SAMPLE_RATE
from streamer.build.options import scheduler_options
from streamer.config import Config
from streamer.protocol.events import Bye, TurnEnd
from streamer.protocol.options import SessionOptions
from streamer.scheduling.decoder import LocalDecoder
from streamer.scheduling.device_thread import DeviceThread
from streamer.scheduling.inbox import MAX_BLOCKS, MAX_COMMANDS
from streamer.scheduling.load import LoadLimits, LoadMeter, StepCosts
from streamer.scheduling.outbox import MAX_REPEATED
from streamer.scheduling.recording import RecordingOptions, Recordings
from streamer.scheduling.reviser import MAX_WAITING
from streamer.scheduling.scheduler import Scheduler, running
from streamer.scheduling.session_handle import SessionHandle
from streamer.scheduling.worker import Worker, WorkerOptions
from streamer.server.rooms.base_room import HISTORY, MAX_PENDING, Viewer
from streamer.server.rooms.room import Room
from streamer.session.audio_window import CAPACITY_S, WindowOptions
from streamer.session.commit_policy import POLICIES
from streamer.session.journal import Entry
from streamer.session.session import MAX_FLUSHES
from streamer.session.spec import ModelFacts
from streamer.session.transcript import OVERLONG
from streamer.session.voice_activity import VOICE_FRAME_S
from streamer.session.window import MAX_PREFIX
from streamer.step import StepRequest, StepResult
from streamer.telemetry.metrics import ServiceMetrics
from streamer.text.tokenizer import Tokenizer
from streamer.weights.vocabulary import build_tokenizer

WORD_FRAMES = 70
"""Mel frames of a word: 0.7 s."""
N_MELS = 2
INTERVAL_S = 2.0
"""Audio between two steps of a session: eight sessions of a day are 230,000 steps."""
N_SESSIONS = 8


# --- what is heard


class Sound:
    """
    Who speaks when, in one session: spans of voice and silence by turns, the same in every run.

    Args:
        seed: Of the lengths.
        speech_s: Shortest and longest span of voice, seconds.
        pause_s: Shortest and longest pause, seconds.
    """

    def __init__(self, seed: int, speech_s: tuple[float, float], pause_s: tuple[float, float]) -> None:
        self._random = np.random.default_rng(seed)
        self._lengths_s = speech_s, pause_s
        self._is_voice, self._left = False, 0

    def samples(self, n: int) -> NDArray[np.float32]:
        """The next samples, (n,): 0.5 where there is voice."""
        block = np.zeros(n, np.float32)
        at = 0
        while at < n:
            if not self._left:
                self._is_voice = not self._is_voice
                low, high = self._lengths_s[0 if self._is_voice else 1]
                self._left = max(1, int(self._random.uniform(low, high) * SAMPLE_RATE))
            taken = min(self._left, n - at)
            block[at : at + taken] = 0.5 if self._is_voice else 0.0
            at, self._left = at + taken, self._left - taken
        return block


def sounds() -> list[Sound]:
    """Of the eight sessions: lectures, dialogues, a noisy room, a day that is nearly silent, music without a pause."""
    kinds = [
        ((4.0, 15.0), (0.3, 2.5)),  # lecture
        ((3.0, 60.0), (0.2, 4.0)),  # reading
        ((0.5, 4.0), (0.4, 6.0)),  # dialogue
        ((0.3, 1.5), (0.6, 3.0)),  # commands
        ((0.03, 0.4), (0.03, 1.0)),  # noisy room
        ((1.0, 5.0), (60.0, 600.0)),  # nearly silent
        ((0.064, 0.5), (0.064, 0.2)),  # music: voice that flickers, and no pause
        ((3600.0, 7200.0), (0.064, 0.1)),  # talk radio
    ]
    return [Sound(seed, *kind) for seed, kind in enumerate(kinds)]


class LoudnessFrontEnd:
    """Mel frames that hold no sound, and the voice that `Sound` says."""

    def extract(self, states: Sequence[FeatureState], samples: Sequence[Tensor]) -> list[Features]:
        """As `FrontEnd.extract`."""
        return [self._one(state, block) for state, block in zip(states, samples, strict=True)]

    def _one(self, state: FeatureState, block: Tensor) -> Features:
        n_frames = sum(part.shape[0] for part in state.frames.push(block))
        voiced = state.whole_frames(block).mean(dim=1) > 0.25
        return Features(torch.zeros(n_frames, N_MELS), voiced.float().tolist())


class ClockEngine:
    """
    An engine that says which hundredths of a second a window holds: a word of one token for each `WORD_FRAMES`.

    Args:
        tokenizer: Of the sessions.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        texts = ((token, tokenizer.decode([token])) for token in range(1000, 9000))
        self._words = [token for token, text in texts if text.startswith(" ") and text[1:].isalpha()]
        self.n_rows = 0
        """Rows of all steps."""

    def step(self, batch: Sequence[StepRequest]) -> list[StepResult]:
        """As `Engine.step`."""
        self.n_rows += len(batch)
        return [self._row(request) for request in batch]

    def forget(self, session: str) -> None:
        """Nothing is remembered."""

    def _row(self, request: StepRequest) -> StepResult:
        start = request.window_start or 0
        first = -(-start // WORD_FRAMES)
        if request.prefix:
            first = round((start + request.anchor_s * 100) / WORD_FRAMES) + 1
        last = max(first, (start + request.log_mel.shape[1] - 20) // WORD_FRAMES)
        tokens = tuple(self._words[n % len(self._words)] for n in range(first, last))
        starts = [max(request.anchor_s, (n * WORD_FRAMES - start) / 100) for n in range(first, last + 1)]
        return StepResult(
            tokens=tokens,
            logprobs=(-0.1,) * len(tokens),
            starts_s=tuple(starts),
            n_verified=0,
            ended=True,
            no_speech_prob=0.0,
            language="en",
        )


# --- the service


class Journal:
    """A recorder that encodes every entry as a recording does, and keeps the size alone."""

    def __init__(self) -> None:
        self._encoder = msgspec.json.Encoder()
        self.n_bytes = 0

    def entry(self, entry: Entry) -> None:
        """Count an entry."""
        self.n_bytes += len(self._encoder.encode(entry))

    def audio(self, samples: Tensor) -> None:
        """Count samples, (n,) float32."""
        self.n_bytes += 4 * samples.shape[0]

    def close(self) -> None:
        """Nothing is open."""


class Journals(Recordings):
    """Gives every session a `Journal`: a day of eight sessions would fill 44 GB of disk."""

    def __init__(self) -> None:
        options = RecordingOptions(folder=None, max_session_bytes=0, max_folder_bytes=0)
        super().__init__(options, lambda _: None)

    def open(self, session: str) -> Journal:  # type: ignore[override]  # the scheduler calls what `Journal` has
        """A new journal."""
        return Journal()


@dataclass(slots=True)
class Day:
    """A running service, and what takes part in it."""

    scheduler: Scheduler
    worker: Worker
    engine: ClockEngine
    room: Room
    sounds: list[Sound] = field(default_factory=sounds)
    streams: list[SessionHandle] = field(default_factory=list)
    viewers: list[Viewer] = field(default_factory=list)
    n_turns: int = 0


@asynccontextmanager
async def service() -> AsyncIterator[Day]:
    """A scheduler with one worker; it runs for the length of the block."""
    vocabulary = Path(whisper.__file__).parent / "assets" / "gpt2.tiktoken"
    tokenizer = build_tokenizer(vocabulary, 51864)
    engine, metrics = ClockEngine(tokenizer), ServiceMetrics(CollectorRegistry())
    limits = LoadLimits(min_interval_s=INTERVAL_S, max_interval_s=INTERVAL_S)
    meter = LoadMeter(limits, max_batch=N_SESSIONS, costs=StepCosts(1e-4, 1e-4))
    # audio comes faster than real time: a round takes a second of it
    decoder = LocalDecoder("0", engine, meter, DeviceThread())
    worker = Worker(decoder, LoudnessFrontEnd(), WorkerOptions(tick_s=0.0), metrics)  # type: ignore[arg-type]
    model = ModelFacts(name="day", tokenizer=tokenizer, n_mels=N_MELS)
    config = Config()
    window = WindowOptions(max_window_s=config.scheduler.max_window_s)
    options = replace(scheduler_options(config), max_backlog_s=1.0)  # `feed` waits: no audio comes before its time
    scheduler = Scheduler(model, [worker], options, window, metrics, Journals())
    async with running(scheduler):
        yield Day(scheduler, worker, engine, Room("day"))


async def read(day: Day, stream: SessionHandle, *, publishes: bool) -> None:
    """Read the events of a session to its end, and publish them in the room."""
    async for event in stream:
        day.n_turns += isinstance(event, TurnEnd)
        if publishes:
            day.room.publish(event)
        if isinstance(event, Bye):
            return


async def watch(viewer: Viewer, every: int) -> None:
    """Read the messages of a viewer; one in `every` turns of the event loop."""
    async for _ in viewer:
        for _ in range(every):
            await asyncio.sleep(0)


async def spend(day: Day, seconds: int, started_s: int) -> None:
    """Feed `seconds` of audio to every session, `started_s` seconds of the clock after the beginning."""
    for second in range(started_s, started_s + seconds):
        await asyncio.gather(
            *(stream.feed(sound.samples(SAMPLE_RATE)) for stream, sound in zip(day.streams, day.sounds, strict=True))
        )
        if second % 7 == 0:
            day.streams[3].flush(second)
        if second % 600 == 599:  # a client loses its connection and comes back
            await reconnect(day, 2)


async def reconnect(day: Day, i: int) -> None:
    """Let another connection take a session over."""
    stream = day.streams[i]
    resumed = day.scheduler.resume(stream.id, stream.token, max(0.0, stream.received_s - 5.0))
    assert resumed is not None
    stream.detach()


# --- what it holds

MOST_WORDS = int(OVERLONG * WindowOptions(max_window_s=15.0).max_turn_s + CAPACITY_S) * 100 // WORD_FRAMES
"""Words of a turn: its longest length before it ends without a pause, and the window that goes on."""
WINDOW_WORDS = int(CAPACITY_S * 100) // WORD_FRAMES + 1
"""Words of one window."""
BOUNDS: dict[str, int] = {
    "Agreement._earlier": max(policy.agreement for policy in POLICIES.values()),
    "Agreement._earlier[]": WINDOW_WORDS,
    "Caption.words": MOST_WORDS,
    "CoalescingQueue._events": Config().limits.max_unread_events + MAX_REPEATED + 1,
    "Inbox._items": MAX_BLOCKS + MAX_COMMANDS,
    "JournalledSession._flushes": MAX_FLUSHES,
    "Outbox._read_revisions": MAX_REPEATED,
    "Outbox._read_turns": MAX_REPEATED,
    "PendingTurnEnds._ends": 2,
    "PendingTurnEnds._ends[]": 2,
    "Room._behind": 3,
    "Room._open_turn": 3,
    "Room._revisions": HISTORY,
    "Room._turns": HISTORY,
    "Room._turns[]": 3,
    "Room._viewers": 3,
    "Scheduler._background": 0,
    "Scheduler.languages": 1,
    "Scheduler.revisers": 2,
    "SecondPass._new": MAX_WAITING,
    "SecondPass._outstanding": MAX_WAITING,
    "SessionOptions.keyterms": 0,
    "SpokenWord.said_s": 2,
    "SpokenWord.tokens": 1,
    "Transcript._partial": WINDOW_WORDS,
    "Transcript._shown": 2,
    "Transcript._stable": MOST_WORDS,
    "TurnEnd.words": MOST_WORDS,
    "Viewer._pending": MAX_PENDING + HISTORY + 2,
    "Viewer._pending[]": 3,
    # a turn without a second pass has none
    "_CutTurn.parts": MOST_WORDS,
    # a frame of voice after each frame of silence is a span
    "VoiceTracker._voiced": int(CAPACITY_S / (2 * VOICE_FRAME_S)) + 2,
    "VoiceTracker._voiced[]": 2,
    "Window._context": MAX_PREFIX,
    "Window._newly_stable": WINDOW_WORDS,
    "Window._prompt": MAX_PREFIX,
    "WindowText._committed": WINDOW_WORDS,
    "WindowText._no_eot_at": WINDOW_WORDS,
    "WindowText._tail": WINDOW_WORDS,
    "Worker._stepping": N_SESSIONS,
    "Worker._steps": N_SESSIONS,
    "Worker.streams": N_SESSIONS,
    "Workers._workers": 1,
}
"""Most items of every container that the service holds during the day; one that is not named here is a fault."""
CONTAINERS = (list, dict, set, frozenset, tuple, collections.deque, bytearray)


def containers(roots: Sequence[object]) -> dict[str, int]:
    """
    The longest length of each container that objects of this package hold, by class and attribute.

    Args:
        roots: Objects from which all others can be reached, through attributes and through containers.
    """
    found: dict[str, int] = collections.defaultdict(int)
    for path, container in _walk(roots):
        found[path] = max(found[path], container.qsize() if isinstance(container, queue.Queue) else len(container))
    return dict(found)


def over_bounds(lengths: dict[str, int]) -> list[str]:
    """Containers that are longer than their bound, or have none."""
    return [f"{name}: {n}, bound {BOUNDS.get(name)}" for name, n in lengths.items() if n > BOUNDS.get(name, -1)]


def _walk(roots: Sequence[object]) -> Iterator[tuple[str, Any]]:
    """Every container that can be reached, with the path of the attribute that holds it."""
    seen: set[int] = set()
    waiting: list[tuple[str, object]] = [(type(root).__name__, root) for root in roots]
    while waiting:
        path, value = waiting.pop()
        if id(value) in seen or isinstance(value, Tokenizer | ServiceMetrics):
            continue
        seen.add(id(value))
        if isinstance(value, CONTAINERS):
            yield path, value
            items = value.values() if isinstance(value, dict) else value
            waiting += [(f"{path}[]", item) for item in list(items)[:1000]]
        elif isinstance(value, queue.Queue):
            yield path, value
        elif type(value).__module__.startswith("streamer."):
            waiting += [(f"{type(value).__name__}.{name}", held) for name, held in _attributes(value)]


def _attributes(value: object) -> Iterator[tuple[str, object]]:
    yield from getattr(value, "__dict__", {}).items()
    for kind in type(value).__mro__:
        for name in getattr(kind, "__slots__", ()):
            if hasattr(value, name):
                yield name, getattr(value, name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hour:
    """What one stretch of the day cost."""

    until_s: int
    """End of the stretch, seconds of the simulated clock."""
    step_us: float
    """Processor time of the event loop and of the device thread for each row, microseconds."""
    rows: int
    turns: int
    memory_mb: float
    """Resident memory of the process at the end, megabytes."""
    lengths: dict[str, int]
    """Longest length of each container at the end of the stretch."""


async def live(hours: int, seconds: int, report: Callable[[Hour], None]) -> list[Hour]:
    """
    Live through a day.

    Args:
        hours: Stretches of it.
        seconds: Length of a stretch, seconds of the simulated clock.
        report: Called after each stretch.
    """
    async with service() as day, asyncio.TaskGroup() as tasks:
        day.streams = [day.scheduler.open(SessionOptions(language="en")) for _ in range(N_SESSIONS)]
        day.viewers = [day.room.join() for _ in range(3)]
        readers = [tasks.create_task(_read_on(day, i)) for i in range(N_SESSIONS)]
        readers += [tasks.create_task(watch(viewer, 10**n)) for n, viewer in enumerate(day.viewers)]
        found = []
        for hour in range(hours):
            found.append(await _hour(day, hour * seconds, seconds))
            report(found[-1])
        for stream in day.streams:
            stream.end()
        for reader in readers:
            reader.cancel()
        return found


async def _read_on(day: Day, i: int) -> None:
    """Read a session, and again when another connection has taken it over."""
    stream = day.streams[i]
    while not stream.is_over:
        await read(day, stream, publishes=i == 0)


async def _hour(day: Day, started_s: int, seconds: int) -> Hour:
    cpu_s, n_rows, n_turns = time.process_time(), day.engine.n_rows, day.n_turns
    await spend(day, seconds, started_s)
    rows = day.engine.n_rows - n_rows
    used_s = time.process_time() - cpu_s
    day.scheduler.check_integrity()
    return Hour(
        until_s=started_s + seconds,
        step_us=used_s / max(1, rows) * 1e6,
        rows=rows,
        turns=day.n_turns - n_turns,
        memory_mb=_resident_mb(),
        lengths=containers([day.scheduler, day.room, *day.viewers]),
    )


def _resident_mb() -> float:
    status = Path("/proc/self/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1]) / 1024


def main() -> None:
    """Run the day, and print a row for each hour."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").strip().splitlines()[0])
    parser.add_argument("--hours", type=whole(), default=24, help="stretches of the day")
    parser.add_argument(
        "--seconds", type=whole(), default=3600, help="length of a stretch, seconds of the simulated clock"
    )
    parser.add_argument("--out", type=results_file, help="file for the result in JSON")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print("hour   step (us)    rows  turns  memory (MB)  longest containers")

    def report(hour: Hour) -> None:
        longest = sorted(hour.lengths.items(), key=lambda item: -item[1])[:3]
        named = ", ".join(f"{name} {n}" for name, n in longest)
        print(
            f"{hour.until_s / 3600:5.2f}  {hour.step_us:9.0f}  {hour.rows:6}  {hour.turns:5}"
            f"  {hour.memory_mb:11.1f}  {named}",
            flush=True,
        )

    found = asyncio.run(live(arguments.hours, arguments.seconds, report))
    print("\nlongest length at the end of any hour")
    for name in sorted(found[0].lengths.keys() | found[-1].lengths.keys()):
        lengths = [hour.lengths.get(name, 0) for hour in found]
        print(f"{name:40} {max(lengths):6}  bound {BOUNDS.get(name)}")
    if arguments.out:
        arguments.out.write_bytes(json.dumps([msgspec.to_builtins(hour) for hour in found], indent=1).encode())
    if over := [each for hour in found for each in over_bounds(hour.lengths)]:
        raise SystemExit("\n".join(over))


if __name__ == "__main__":
    program(main)
