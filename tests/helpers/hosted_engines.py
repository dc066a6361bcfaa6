"""
Engines behind the messages of a gateway, in memory and with scripted steps: late, lost, doubled, forgetful.

    python -m tests.helpers.hosted_engines DESCRIPTOR [LISTENING]     the same engine in a process of its own, unharmed
"""

from __future__ import annotations

import asyncio
import random
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from prometheus_client import CollectorRegistry

from streamer.engine_process import Hosted, main, ready
from streamer.remote import wire
from streamer.remote.decoder import RemoteDecoder
from streamer.remote.held_windows import HeldWindows
from streamer.remote.host import EngineHost, StepTimesQueue
from streamer.remote.link import EngineLink
from streamer.remote.revision_host import RevisionHost
from streamer.remote.revisions import RemoteRevisions
from streamer.scheduling.calibration import Clocks
from streamer.scheduling.decoder import LocalDecoder
from streamer.scheduling.device_thread import DeviceThread
from streamer.scheduling.load import LoadLimits, LoadMeter, StepCosts
from streamer.scheduling.revision_decoder import RevisionDecoder, RevisionThread
from streamer.step import StepRequest
from streamer.telemetry.metrics import EngineMetrics, ServiceMetrics
from tests.helpers.scripted_engine import INTERVAL_S, ScriptedEngine, reviser

FINGERPRINT = "scripted"
DEADLY = "deadly"
"""A session whose steps end the process of every engine in memory."""
COMMAND = (sys.executable, "-m", "tests.helpers.hosted_engines")


def meter(max_batch: int = 4) -> LoadMeter:
    """Of steps that cost a millisecond a row."""
    limits = LoadLimits(min_interval_s=INTERVAL_S, max_interval_s=INTERVAL_S)
    return LoadMeter(limits, max_batch=max_batch, costs=StepCosts(0.0, 0.001))


def hosted(
    engine: ScriptedEngine, clock: Callable[[], float] | None = None, fingerprint: str = FINGERPRINT
) -> EngineHost:
    """The host of a scripted engine; another one makes its second passes, which hear a c in place of every b."""
    timed: dict[str, Any] = {"clock": clock} if clock else {}
    revisers = [reviser(ScriptedEngine())]
    return EngineHost(
        LocalDecoder("0", engine, meter(), DeviceThread()),
        engine,
        fingerprint=fingerprint,
        n_mels=5,
        max_batch=4,
        times=StepTimesQueue(),
        n_rebuilt=lambda: 0,
        clocks=Clocks(),
        revisions=RevisionHost(RevisionThread(RevisionDecoder(revisers)), 5, **timed),
        **timed,
    )


def facts(fingerprint: str = FINGERPRINT) -> wire.Facts:
    """Of the scripted model."""
    tokenizer = ScriptedEngine().tokenizer
    return wire.Facts(
        name="toy",
        fingerprint=fingerprint,
        base_tokens=tokenizer.base_tokens,
        n_languages=tokenizer.n_languages,
        n_mels=5,
        alignment_lag_s=0.0,
        max_batch=4,
        device="cpu",
        dtype="float32",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Faults:
    """What goes wrong between a gateway and an engine, as parts of all calls."""

    late_s: float = 0.0
    """A message is under way for up to so long, seconds."""
    lost: float = 0.0
    """Calls that never arrive."""
    doubled: float = 0.0
    """Replies that come twice."""
    not_known: float = 0.0
    """Calls before which the engine process forgets every window, evenly spaced: there are some, however few calls."""
    poisoned: float = 0.0
    """Calls of which one row fails, once, evenly spaced."""
    away: float = 0.0
    """Calls at which the connection ends, evenly spaced, so that no step meets three; there is a new one at once."""


class Mishaps:
    """
    What goes wrong between a gateway and an engine.

    Args:
        engine: Behind the messages.
        host: Of the engine.
        faults: See `Faults`.
        seed: Of what goes wrong.
    """

    def __init__(self, engine: ScriptedEngine, host: EngineHost, faults: Faults, seed: int) -> None:
        self.n = 0
        """Of all."""
        self._engine, self._host, self._faults, self._random = engine, host, faults, random.Random(seed)
        self._n_calls = self._n_arrived = 0

    def loses(self, call: wire.Call) -> bool:
        """Whether a call is lost; what else meets it has met the engine then."""
        if self._meets(self._faults.lost):
            return True
        self._n_arrived += 1
        if self._is_turn(self._faults.not_known, self._n_arrived):
            self._host.windows = HeldWindows(5)
        if self._is_turn(self._faults.poisoned, self._n_arrived):
            self._engine.poisoned[call.rows[0].request.session] = 1
        return False

    def ends_connection(self) -> bool:
        """Whether the connection ends at the next call."""
        self._n_calls += 1
        return self._is_turn(self._faults.away, self._n_calls)

    def times_told(self) -> int:
        """How often an answer comes."""
        return 2 if self._meets(self._faults.doubled) else 1

    def late_s(self) -> float:
        """How long a message is under way, seconds."""
        return self._random.random() * self._faults.late_s

    def _is_turn(self, part: float, number: int) -> bool:
        met = bool(part) and number % round(1 / part) == 0
        self.n += met
        return met

    def _meets(self, part: float) -> bool:
        met = self._random.random() < part
        self.n += met
        return met


class MemoryEngine:
    """
    One place of a pool: an engine of this process, reached by packed messages that meet faults.

    Args:
        name: Of the engine.
        faults: See `Faults`.
        seed: Of what goes wrong.
    """

    def __init__(self, name: str, faults: Faults, seed: int) -> None:
        self.name, self.pid, self.n_restarts = name, 1, 0
        self.engine = ScriptedEngine()
        self.is_lost, self.is_wanted = False, True
        self.sent: list[wire.FromGateway] = []
        self.on_change: Callable[[], None] = lambda: None
        self.host = hosted(self.engine)
        self._mishaps = Mishaps(self.engine, self.host, faults, seed)
        self.connect()

    @property
    def n_faults(self) -> int:
        """Things that went wrong."""
        return self._mishaps.n

    def connect(self) -> None:
        """A new connection; the engine process is a fresh one."""
        self.host.windows = HeldWindows(5)
        self.link = EngineLink(self.name, lambda frame: self._receive(frame, self.link))
        self.link.on_change = self.on_change
        self.on_change()

    async def run(self) -> None:
        """Run steps until cancelled."""
        await asyncio.gather(self.host.run(), self.host.revisions.run())

    def _receive(self, frame: bytes, link: EngineLink) -> None:
        message = wire.from_gateway(frame[wire.LENGTH.size :])
        assert wire.FRAMING.length_of(frame[: wire.LENGTH.size]) == len(frame) - wire.LENGTH.size
        self.sent.append(message)
        if isinstance(message, wire.Call):
            if self._mishaps.ends_connection() or any(each.session == DEADLY for each in asked(message)):
                asyncio.get_running_loop().call_soon(self._reconnect)
                return
            if self._mishaps.loses(message):
                return
        self._later(lambda: self.host.take(message, lambda answer: self._send(answer, link)))

    def _reconnect(self) -> None:
        self.link.lose()
        self.connect()

    def _send(self, message: wire.Message, link: EngineLink) -> None:
        frame = wire.pack(message)
        for _ in range(self._mishaps.times_told()):
            self._later(lambda: link.take(wire.from_engine(frame[wire.LENGTH.size :])))

    def _later(self, call: Callable[[], None]) -> None:
        asyncio.get_running_loop().call_later(self._mishaps.late_s(), call)


class MemoryPool:
    """
    Engines in memory.

    Args:
        n: Their number.
        faults: What goes wrong with each.
        seed: Of what goes wrong.
    """

    def __init__(self, n: int = 2, faults: Faults = Faults(), seed: int = 0) -> None:
        self.has_given_up = False
        self.metrics = ServiceMetrics(registry := CollectorRegistry())
        self.registry = registry
        self._change = asyncio.Event()
        self.places = [MemoryEngine(str(i), faults, 10 * seed + i) for i in range(n)]
        for place in self.places:
            place.on_change = place.link.on_change = self.change

    def decoder(self, home: int = 0, patience_s: float = 0.1, fingerprint: str = FINGERPRINT) -> RemoteDecoder:
        """The decoder of a worker."""
        return RemoteDecoder(
            self,
            home,
            fingerprint=fingerprint,
            meter=meter(),
            n_places=2,
            metrics=self.metrics,
            engine_metrics=EngineMetrics(CollectorRegistry()),
            patience_s=patience_s,
        )

    def revisions(self) -> RemoteRevisions:
        """Makes second passes."""
        return RemoteRevisions(self, [reviser(ScriptedEngine()).facts], FINGERPRINT)

    def count(self, metric: str) -> float:
        """Value of a metric."""
        return self.registry.get_sample_value(metric) or 0.0

    async def changed(self) -> None:
        """As `EnginePool.changed`."""
        await self._change.wait()

    def change(self) -> None:
        """Wake who waits for a change."""
        change, self._change = self._change, asyncio.Event()
        change.set()

    async def run(self) -> None:
        """Run all engines until cancelled."""
        async with asyncio.TaskGroup() as group:
            for place in self.places:
                group.create_task(place.run())


def rows_of(message: wire.FromGateway) -> Sequence[wire.Row]:
    """Rows of a call; none of another message."""
    return message.rows if isinstance(message, wire.Call) else ()


def asked(message: wire.FromGateway) -> list[StepRequest]:
    """Requests of a call."""
    return [row.request for row in rows_of(message)]


def build(begin: wire.Begin) -> Hosted:
    """A scripted engine, at once; the name of its model is its fingerprint."""
    name = begin.config.model.name
    return Hosted(
        hosted(ScriptedEngine(), fingerprint=name),
        ready(facts(name), StepCosts(0.0, 0.001), {}, [reviser(ScriptedEngine()).facts]),
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], build))
