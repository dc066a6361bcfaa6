"""
Engines and gateways without processes: hosts, links, decoders, workers and schedulers are those of the daemon.

Only three things are simulated: time, the device and the front end of a gateway, which take the time that they are said
to cost, and the sockets between them, which take a hop.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from prometheus_client import CollectorRegistry

from benchmarks.scale.costs import EngineCosts, GatewayCosts
from benchmarks.scale.speech import MODEL, Talkers, WordEngine, WordFrontEnd
from streamer.remote import wire
from streamer.remote.decoder import RemoteDecoder
from streamer.remote.host import EngineHost, StepTimesQueue
from streamer.remote.link import PING_S, EngineLink
from streamer.remote.revision_host import RevisionHost
from streamer.scheduling.calibration import Clocks
from streamer.scheduling.decoder import LocalDecoder, Stepped
from streamer.scheduling.device_thread import DeviceThread
from streamer.scheduling.load import LoadLimits, LoadMeter
from streamer.scheduling.options import SchedulerOptions
from streamer.scheduling.revision_decoder import RevisionDecoder, RevisionThread
from streamer.scheduling.scheduler import Scheduler
from streamer.scheduling.worker import Worker, WorkerOptions
from streamer.session.audio_window import WindowOptions
from streamer.step import StepRequest, StepResult
from streamer.telemetry.metrics import EngineMetrics, ServiceMetrics

T = TypeVar("T")
FINGERPRINT = "simulated"
HOP_S = 0.0003
"""One way between a gateway and an engine."""
LIMITS = LoadLimits(min_interval_s=0.3, max_interval_s=1.0)
"""Of the interval between steps: the defaults of the configuration."""


class BusyThread(DeviceThread):
    """
    A device that is busy for as long as a call is said to cost.

    Args:
        cost_s: Of the call just made, seconds.
    """

    def __init__(self, cost_s: Callable[[], float]) -> None:
        self._cost_s, self._in_turn = cost_s, asyncio.Lock()
        self.busy_s = 0.0

    @property
    def is_hanging(self) -> bool:
        """Never."""
        return False

    async def run(self, call: Callable[[], T]) -> T:
        """As `DeviceThread.run`, in simulated time."""
        async with self._in_turn:
            result, cost_s = call(), self._cost_s()
            self.busy_s += cost_s
            await asyncio.sleep(cost_s)
            return result

    def close(self) -> None:
        """There is no thread."""


class Engine:
    """
    One engine and its host.

    Args:
        name: Of the engine.
        costs: Of its steps.
        talkers: What is said.
        seed: Of the spread of its steps.
    """

    def __init__(self, name: str, costs: EngineCosts, talkers: Talkers, seed: int) -> None:
        self.name, self.costs = name, costs
        self._talkers, self._random = talkers, random.Random(seed)
        self.links: list[Place] = []
        self.n_steps = self.n_rows = 0
        self.busy_s = 0.0
        self.is_up = False

    def start(self) -> None:
        """Begin to serve, with nothing cached."""
        self._engine = WordEngine(self._talkers)
        self._batch = 0
        meter = LoadMeter(LIMITS, self.costs.most_rows, self.costs.step)
        self.host = EngineHost(
            LocalDecoder(self.name, self, meter, BusyThread(self._cost_s)),
            self,
            fingerprint=FINGERPRINT,
            n_mels=MODEL.n_mels,
            max_batch=self.costs.most_rows,
            times=StepTimesQueue(),
            n_rebuilt=lambda: 0,
            clocks=Clocks(),
            revisions=RevisionHost(RevisionThread(RevisionDecoder([])), MODEL.n_mels),
            clock=asyncio.get_running_loop().time,
        )
        self._work = asyncio.ensure_future(self.host.run())
        self.is_up = True
        for place in self.links:
            place.connect()

    def lose(self) -> None:
        """Its process ends: what it knew is gone, and nobody is told but by the connections."""
        self.is_up = False
        self._work.cancel()
        for place in self.links:
            place.disconnect()

    # --- as the engine of its host

    @property
    def cache_bytes(self) -> tuple[int, int]:
        """Of its present engine."""
        return self._engine.cache_bytes

    def step(self, batch: Sequence[StepRequest]) -> list[StepResult]:
        """As `Engine.step`."""
        self._batch = len(batch)
        return self._engine.step(batch)

    def forget(self, session: str) -> None:
        """The session is over."""
        self._engine.forget(session)

    def _cost_s(self) -> float:
        """Of the call just made: a step, or what costs nothing."""
        n_rows, n_cold = self._batch, self._engine.n_cold
        self._batch = self._engine.n_cold = 0
        if not n_rows:
            return 0.0
        work_s = self.costs.fixed_s + (n_rows + (self.costs.cold_rows - 1) * n_cold) * self.costs.row_s
        work_s *= max(0.5, self._random.gauss(1.0, self.costs.spread))
        self.n_steps, self.n_rows, self.busy_s = self.n_steps + 1, self.n_rows + n_rows, self.busy_s + work_s
        return work_s


class Place:
    """
    One engine as one gateway sees it; as `EnginePlace`.

    Args:
        engine: The engine.
        on_change: Called when it begins or stops to answer.
    """

    pid, n_restarts, is_wanted = 1, 0, True

    def __init__(self, engine: Engine, on_change: Callable[[], None]) -> None:
        self.name = engine.name
        self.link: EngineLink | None = None
        self.n_bytes = 0
        self.n_calls = 0
        self.n_rows = 0
        self._engine, self._on_change = engine, on_change
        self._to_engine: deque[tuple[EngineLink, bytes]] = deque()
        self._to_gateway: deque[tuple[EngineLink, bytes]] = deque()
        self._pings: asyncio.Future[None] | None = None
        engine.links.append(self)

    @property
    def is_lost(self) -> bool:
        """Whether it does not answer."""
        return self.link is None or not self.link.is_answering

    def connect(self) -> None:
        """The engine has begun to serve."""
        link = self.link = EngineLink(self.name, lambda frame: self._send(link, frame))
        link.on_change = self._on_change
        self._pings = asyncio.ensure_future(self._ping(link))
        self._on_change()

    def disconnect(self) -> None:
        """The engine, or the gateway, is gone."""
        if self._pings:
            self._pings.cancel()
        if self.link:
            link, self.link = self.link, None
            link.lose()
        self._on_change()

    async def _ping(self, link: EngineLink) -> None:
        await asyncio.sleep(random.Random(id(link)).random() * PING_S)
        while True:
            link.tick()
            await asyncio.sleep(PING_S)

    def _send(self, link: EngineLink, frame: bytes) -> None:
        self._to_engine.append((link, frame))
        asyncio.get_running_loop().call_later(HOP_S, self._arrive)

    def _arrive(self) -> None:
        link, frame = self._to_engine.popleft()
        message = wire.from_gateway(frame[wire.LENGTH.size :])
        self.n_bytes += len(frame)
        if isinstance(message, wire.Call):
            n_frames = sum(row.request.log_mel.numel() for row in message.rows)
            self.n_bytes += 2 * n_frames * (self._engine.costs.n_mels - 1)
            self.n_calls, self.n_rows = self.n_calls + 1, self.n_rows + len(message.rows)
        if self._engine.is_up and link is self.link:
            self._engine.host.take(message, lambda answer: self._answer(link, answer), self)

    def _answer(self, link: EngineLink, message: wire.Message) -> None:
        self._to_gateway.append((link, wire.pack(message)))
        asyncio.get_running_loop().call_later(HOP_S, self._return)

    def _return(self) -> None:
        link, frame = self._to_gateway.popleft()
        if link is self.link:
            link.take(wire.from_engine(frame[wire.LENGTH.size :]))


class Pool:
    """The engines of one gateway; as `EnginePool`."""

    has_given_up = False

    def __init__(self, engines: list[Engine]) -> None:
        self._change = asyncio.Event()
        self.places = [Place(engine, self._changed) for engine in engines]

    async def changed(self) -> None:
        """Wait until an engine begins or stops to answer."""
        await self._change.wait()

    def _changed(self) -> None:
        change, self._change = self._change, asyncio.Event()
        change.set()


class TimedDecoder(RemoteDecoder):
    """Notes how long each step takes, from the call to its answers."""

    def note(self, delays_s: list[float]) -> None:
        """Put the delays here."""
        self._delays_s = delays_s

    async def step(self, batch: Any) -> Stepped:
        """As `RemoteDecoder.step`."""
        began_s = asyncio.get_running_loop().time()
        stepped = await super().step(batch)
        self._delays_s.append(asyncio.get_running_loop().time() - began_s)
        return stepped


class _Delays:
    """Takes the delays of words as the histogram of the metrics does, and keeps them."""

    def __init__(self, keep: Callable[[float], None]) -> None:
        self.observe = keep


class Gateway:
    """
    One gateway process: a scheduler with a worker for each engine of its cell.

    Args:
        engines: Of its cell.
        costs: Of its processor.
        max_sessions: Sessions admitted at most; 0: as its meter says.
        n_places: Calls of a worker under way at most.
        talkers: What is said.
        note: Called with the delay of each word that becomes stable.
    """

    def __init__(
        self,
        engines: list[Engine],
        costs: GatewayCosts,
        max_sessions: int,
        n_places: int,
        talkers: Talkers,
        note: Callable[[float], None],
    ) -> None:
        self._costs = costs
        self.step_delays_s: list[float] = []
        metrics = ServiceMetrics(registry := CollectorRegistry())
        self.registry = registry
        metrics.commit = _Delays(note)  # type: ignore[assignment]
        self.pool = Pool(engines)
        meter = LoadMeter(LIMITS, engines[0].costs.most_rows, engines[0].costs.step)
        decoders = [
            TimedDecoder(
                self.pool,
                home,
                fingerprint=FINGERPRINT,
                meter=meter,
                n_places=n_places,
                metrics=metrics,
                engine_metrics=EngineMetrics(CollectorRegistry()),
                clock=asyncio.get_running_loop().time,
            )
            for home in range(len(engines))
        ]
        front_end = WordFrontEnd(talkers)
        self._n_extracted = 0
        self.thread = BusyThread(self._round_s)
        for decoder in decoders:
            decoder.note(self.step_delays_s)
            decoder.thread = self.thread
        extract = front_end.extract

        def counted(states: Any, samples: Any) -> Any:
            self._n_extracted = len(states)
            return extract(states, samples)

        front_end.extract = counted  # type: ignore[method-assign]
        self.workers = [Worker(decoder, front_end, WorkerOptions(), metrics) for decoder in decoders]  # type: ignore[arg-type]
        options = SchedulerOptions(
            max_backlog_s=30.0, max_sessions=max_sessions, max_unread=4096, max_per_caller=0, resume_s=30.0
        )
        self.scheduler = Scheduler(MODEL, self.workers, options, WindowOptions(max_window_s=15.0), metrics)

    def _round_s(self) -> float:
        n, self._n_extracted = self._n_extracted, 0
        return self._costs.round_s + n * self._costs.stream_s if n else 0.0

    @property
    def is_lost(self) -> bool:
        """Whether its process has ended."""
        return self.ended.done()

    def start(self) -> None:
        """Begin to serve."""
        self._work = asyncio.ensure_future(self.scheduler.run())
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def lose(self) -> None:
        """Its process ends, with all of its connections."""
        self._work.cancel()
        self.ended.set_result(None)
        for place in self.pool.places:
            place.disconnect()

    def count(self, metric: str) -> float:
        """Value of a metric."""
        return self.registry.get_sample_value(metric) or 0.0
