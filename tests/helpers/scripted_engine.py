"""
An engine and a front end that understand a made-up language, at once and without fail: each word is a stretch of one
loudness. So what a session has to say is known, and a lost, doubled or late piece of sound shows in the text.
"""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry
from torch import Tensor

from streamer.audio.frontend import Features, FeatureState
from streamer.audio.pcm import SAMPLE_RATE
from streamer.build.options import scheduler_options
from streamer.build.service import Service
from streamer.config import Config
from streamer.errors import EngineError
from streamer.protocol.events import Event, TurnEnd
from streamer.protocol.options import SessionOptions
from streamer.scheduling.decoder import Decoder, LocalDecoder
from streamer.scheduling.device_thread import LIVENESS_S, DeviceThread
from streamer.scheduling.load import LoadLimits, LoadMeter, StepCosts
from streamer.scheduling.recording import Recordings
from streamer.scheduling.reviser import Reviser, TurnDecoder
from streamer.scheduling.revision_decoder import RevisingModel, RevisionDecoder, RevisionThread
from streamer.scheduling.scheduler import Scheduler, running
from streamer.scheduling.session_handle import SessionHandle
from streamer.scheduling.worker import Worker, WorkerOptions
from streamer.session.audio_window import WindowOptions
from streamer.session.spec import ModelFacts
from streamer.step import Engine, StepRequest, StepResult
from streamer.telemetry.metrics import EngineMetrics, ServiceMetrics
from streamer.telemetry.tracing import StepTracer
from streamer.text.tokenizer import Tokenizer
from tests.helpers.engines import toy
from tests.helpers.waiting import until_idle

Heard = tuple[str, float, float]
"""Letter, start and end of a word in a window."""
LETTERS = "bcdfghjkl"
"""Word of loudness 0.1, 0.2, …, 0.9."""
WORD_S = 0.3
POISONED = "poisoned"
"""A session whose steps fail always."""
INTERVAL_S = 0.3
"""Between the steps of a `ScriptedService`."""


def spoken(text: str, pause_s: float = 0.0) -> NDArray[np.float32]:
    """Sound of words of one letter, adjacent ones different, then silence: (n,) at 16 kHz."""
    loudness = [0.1 * (1 + LETTERS.index(word)) for word in text.split()]
    words = np.repeat(np.array(loudness, np.float32), round(WORD_S * SAMPLE_RATE))
    return np.concatenate([words, np.zeros(round(pause_s * SAMPLE_RATE), np.float32)])


def story(n_words: int, seed: int = 0) -> str:
    """Words without circles in them."""
    random = np.random.default_rng(seed)
    words = ["b"]
    while len(words) < n_words:
        words.append(str(random.choice([letter for letter in LETTERS if letter != words[-1]])))
    return " ".join(words)


class LoudnessFrontEnd:
    """Frames whose every band is the loudness; voice is what is not silent."""

    def extract(self, states: Sequence[FeatureState], samples: Sequence[Tensor]) -> list[Features]:
        """As `FrontEnd.extract`."""
        return [self._listen(state, block) for state, block in zip(states, samples, strict=True)]

    def _listen(self, state: FeatureState, block: Tensor) -> Features:
        frames = [part[:, 200:201].expand(-1, 5) for part in state.frames.push(block)]
        voiced = state.whole_frames(block).abs().mean(dim=1) > 0.05
        return Features(torch.cat(frames) if frames else torch.empty(0, 5), voiced.float().tolist())


class ScriptedEngine:
    """
    Says the words it sees.

    What tests set and look at: `poisoned` sessions fail; `hold` makes steps wait for `release`, `entered` is set
    once one does; `batches` are the requests of each step; `on_step` is called with them, on the device thread;
    `reword` changes the words that it says;
    `forgotten` are the sessions it was told are over, `forgot` is set with the first.
    """

    def __init__(self) -> None:
        self.tokenizer: Tokenizer = toy()[1]
        self.poisoned: dict[str, int] = {}
        """Session -> steps that still fail."""
        self.batches: list[list[StepRequest]] = []
        self.forgotten: list[str] = []
        self.forgot = threading.Event()
        self.on_step: Callable[[Sequence[StepRequest]], None] = lambda _: None
        self.reword: Callable[[list[Heard]], list[Heard]] = list
        self.entered = threading.Event()
        self._open = threading.Event()
        self._open.set()

    def hold(self) -> None:
        """Let the next step wait."""
        self.entered.clear()
        self._open.clear()

    def release(self) -> None:
        """Let it go on."""
        self._open.set()

    def step(self, batch: Sequence[StepRequest]) -> list[StepResult]:
        """As `Engine.step`."""
        self.batches.append(list(batch))
        self.entered.set()
        assert self._open.wait(120)
        self.on_step(batch)
        fails = [asked.session for asked in batch if asked.session == POISONED or self.poisoned.get(asked.session, 0)]
        if fails and len(batch) == 1:
            self.poisoned[fails[0]] = self.poisoned.get(fails[0], 1) - 1
            raise EngineError("poisoned row")
        if fails:
            raise EngineError("poisoned batch")
        return [self._say(asked) for asked in batch]

    @property
    def cache_bytes(self) -> tuple[int, int]:
        """Nothing is cached."""
        return 0, 0

    def forget(self, session: str) -> None:
        """The session is over."""
        self.forgotten.append(session)
        self.forgot.set()

    def _say(self, asked: StepRequest) -> StepResult:
        words = self.reword(seen(asked.log_mel[0]))[len(asked.prefix) // 2 :]
        tokens = [token for letter, _, _ in words for token in self.tokenizer.encode(f" {letter}")]
        starts = [at for _, start, end in words for at in (start, (start + end) / 2)]
        return StepResult(
            tokens=tuple(tokens),
            logprobs=(-0.1,) * len(tokens),
            starts_s=(*starts, words[-1][2] if words else 0.0),
            n_verified=0,
            ended=True,
            no_speech_prob=0.0,
            language="en",
        )


def swapped(words: list[Heard]) -> list[Heard]:
    """Every b for a c: what a second pass may hear."""
    return [("c" if letter == "b" else letter, start, end) for letter, start, end in words]


def reviser(engine: ScriptedEngine, name: str = "second") -> RevisingModel:
    """A model for second passes that hears a c in place of every b."""
    engine.reword = swapped
    facts = ModelFacts(name=name, tokenizer=engine.tokenizer, n_mels=5)
    return RevisingModel(facts=facts, new_engine=lambda: engine)


def seen(loudness: Tensor) -> list[Heard]:
    """Letter, start and end of each word in the frames of a window."""
    words, at = [], 0
    for level, run in itertools.groupby(round(float(frame) * 10) for frame in loudness):
        n = len(list(run))
        # less than three frames are the rest of a word that the window has left; other sound says nothing
        if 0 < level <= len(LETTERS) and n >= 3:
            words.append((LETTERS[level - 1], at / 100, (at + n) / 100))
        at += n
    return words


class ScriptedService:
    """
    A scheduler and what it is made of; `engine` and `worker` are the first ones.

    The argument `engine` runs the steps of the first worker in place of the scripted engine. `decoder` makes the
    decoder of an engine and a meter, in place of one in this process. `revisers` make second passes here, `revisions`
    elsewhere.
    """

    def __init__(
        self,
        max_sessions: int = 8,
        max_batch: int = 16,
        n_workers: int = 1,
        recordings: Recordings | None = None,
        worker: WorkerOptions = WorkerOptions(tick_s=0.0),  # noqa: B008 - frozen
        liveness_s: float = LIVENESS_S,
        tracer: StepTracer | None = None,
        engine: Engine | None = None,
        front_end: LoudnessFrontEnd = LoudnessFrontEnd(),  # noqa: B008 - it has no state
        decoder: Callable[[Engine, LoadMeter], Decoder] | None = None,
        supervision: Callable[[], Coroutine[Any, Any, None]] | None = None,
        revisers: Sequence[RevisingModel] = (),
        revisions: TurnDecoder | None = None,
        **options: Any,
    ) -> None:
        self.engines = [ScriptedEngine() for _ in range(n_workers)]
        self.engine = self.engines[0]
        self.registry = CollectorRegistry()
        limits = LoadLimits(min_interval_s=INTERVAL_S, max_interval_s=INTERVAL_S)
        metrics = ServiceMetrics(self.registry)

        def local(engine: Engine, meter: LoadMeter) -> Decoder:
            return LocalDecoder(str(next(numbers)), engine, meter, DeviceThread(liveness_s=liveness_s))

        numbers = itertools.count()
        self.decoders = [
            (decoder or local)(engine, LoadMeter(limits, max_batch=max_batch, costs=StepCosts(0.0, 0.001)))
            for engine in (engine or self.engine, *self.engines[1:])
        ]
        self.workers = [
            Worker(decoder, front_end, worker, metrics, tracer)  # type: ignore[arg-type]
            for decoder in self.decoders
        ]
        self.worker = self.workers[0]
        if revisers:
            revisions = RevisionThread(RevisionDecoder(revisers))
        self.reviser = Reviser(revisions, metrics) if revisions else None
        self.scheduler = Scheduler(
            ModelFacts(name="toy", tokenizer=self.engine.tokenizer, n_mels=5),
            self.workers,
            replace(scheduler_options(Config()), max_sessions=max_sessions, **options),
            WindowOptions(max_window_s=6.0, keep_s=3.0),
            metrics,
            recordings,
            reviser=self.reviser,
            background=[supervision] if supervision else [],
        )

    def open(self, **fields: Any) -> SessionHandle:
        """A session in English."""
        return self.scheduler.open(SessionOptions(language="en", endpoint_ms=500), **fields)

    def count(self, metric: str) -> float | None:
        """Value of a metric."""
        return self.registry.get_sample_value(metric)

    def parts(self) -> Service:
        """As `build` returns them."""
        return Service(
            scheduler=self.scheduler,
            engine_metrics=EngineMetrics(CollectorRegistry()),
            tokenizer=self.engine.tokenizer,
            registry=self.registry,
        )

    async def held(self) -> None:
        """Until a step waits."""
        assert await asyncio.to_thread(self.engine.entered.wait, 60)


@asynccontextmanager
async def serving(**options: Any) -> AsyncIterator[ScriptedService]:
    """A running `ScriptedService`; a test that hangs, or whose scheduler fails, ends."""
    service = ScriptedService(**options)
    async with asyncio.timeout(120), running(service.scheduler):
        await asyncio.sleep(0)  # the scheduler has begun its workers
        await asyncio.sleep(0)  # and they their loops
        try:
            yield service
            await until_idle()
            service.scheduler.check_integrity()
        finally:
            for engine in service.engines:
                engine.release()


async def collect(stream: SessionHandle) -> list[Event]:
    """Everything until Bye."""
    return [event async for event in stream]


async def recite(stream: SessionHandle, text: str, pause_s: float = 0.0) -> list[Event]:
    """Say words to a session, end it, and take what it says."""
    await stream.feed(spoken(text, pause_s))
    stream.end()
    return await collect(stream)


def texts(events: Sequence[Event]) -> list[str]:
    """Of the turns."""
    return [event.text for event in events if isinstance(event, TurnEnd)]
