"""
A cell: some gateways that share some engines, and the streams that they serve, on a simulated clock.

Cells share nothing, so a large service is many of them. Each client is one of `captions.v1`: it resumes where its
gateway is lost, and sends again what it has no stable text of.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import msgspec
import numpy as np
import structlog

from benchmarks.scale import clock
from benchmarks.scale.costs import EngineCosts, GatewayCosts
from benchmarks.scale.machines import Engine, Gateway
from benchmarks.scale.speech import Manner, Speech, Talkers
from streamer.audio.pcm import SAMPLE_RATE
from streamer.errors import OverloadError, StreamerError
from streamer.evaluation.percentiles import percentile
from streamer.protocol.events import Ack, Bye
from streamer.protocol.options import SessionOptions
from streamer.scheduling.session_handle import SessionHandle

CHUNK_S = 0.1
CHUNK = np.full(round(CHUNK_S * SAMPLE_RATE), 0.1, np.float32)
OPTIONS = SessionOptions(language="en", words=False, partials=False)
WARM_UP_S = 5.0
"""Stream time before anything is counted."""
RECONNECT_S = (0.5, 2.0)
"""Pause of a client that has lost its gateway."""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What a cell is made of, and what happens to it."""

    n_streams: int
    n_gateways: int
    n_engines: int
    engine: EngineCosts
    gateway: GatewayCosts = GatewayCosts()
    manner: Manner = Manner()
    n_places: int = 2
    """Calls of a worker under way at most: 2 for engines on GPUs, 1 on CPUs."""
    seconds: float = 30.0
    """Stream time that is counted."""
    lost: str = ""
    """"engine" or "gateway": one is lost after a third of that time."""
    seed: int = 0


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """Of one cell, over the time that is counted."""

    n_streams: int
    audio_s: float
    n_words: int
    n_refused: int
    """Streams that found no place."""
    commit_p50_s: float
    """From the end of a word to its being stable."""
    commit_p95_s: float
    commit_max_s: float
    step_p50_s: float
    """From a call to its answers."""
    step_p95_s: float
    rows_per_step: float
    rows_per_call: float
    calls_per_s: float
    steps_per_stream_s: float
    device: float
    """Part of the time that the busiest engine was busy."""
    gateway: float
    """Part of a core that the busiest gateway took."""
    gateway_ms_per_audio_s: float
    kb_per_audio_s: float
    """Sent to engines."""
    n_moves: int
    n_resent: int


@dataclass
class Stream:
    """One client."""

    speech: Speech
    gateway: int
    n_sent: int = 0
    """Chunks that it has sent, of all sessions."""
    stable_s: float = 0.0
    """End of the audio that it need not send again, stream time."""
    is_refused: bool = False


@dataclass
class Cell:
    """A cell while it runs."""

    plan: Plan
    talkers: Talkers = field(default_factory=Talkers)
    commit_s: list[float] = field(default_factory=list)
    is_counting: bool = False

    def note(self, commit_s: float) -> None:
        """A word has become stable."""
        if self.is_counting:
            self.commit_s.append(commit_s)

    async def run(self) -> Figures:
        """Build it, let everybody speak, meet the fault, and count."""
        plan = self.plan
        self.engines = [Engine(str(n), plan.engine, self.talkers, plan.seed + n) for n in range(plan.n_engines)]
        most = -(-plan.n_streams // max(1, plan.n_gateways - 1)) + 2  # places for those of one that is lost
        self.gateways = [
            Gateway(self.engines, plan.gateway, most, plan.n_places, self.talkers, self.note)
            for _ in range(plan.n_gateways)
        ]
        for gateway in self.gateways:
            gateway.start()
        for engine in self.engines:
            engine.start()
        await asyncio.sleep(0.1)
        draw = random.Random(plan.seed)
        streams = [
            Stream(Speech(plan.manner, WARM_UP_S + plan.seconds + 5, draw.randrange(2**31)), n % plan.n_gateways)
            for n in range(plan.n_streams)
        ]
        speaking = [asyncio.ensure_future(self._speak(each, draw.random() * 2)) for each in streams]
        await asyncio.sleep(WARM_UP_S)
        before = self._counts()
        self.is_counting = True
        await self._meet_fault(plan)
        after = self._counts()
        for task in speaking:
            task.cancel()
        await asyncio.gather(*speaking, return_exceptions=True)
        return self._figures(streams, after - before)

    async def _meet_fault(self, plan: Plan) -> None:
        """Let the time pass that is counted."""
        if not plan.lost:
            await asyncio.sleep(plan.seconds)
            return
        await asyncio.sleep(plan.seconds / 3)
        if plan.lost == "gateway":
            self.gateways[0].lose()
            await asyncio.sleep(plan.seconds * 2 / 3)
            return
        self.engines[0].lose()
        await asyncio.sleep(min(plan.engine.start_s, plan.seconds * 2 / 3))
        self.engines[0].start()
        await asyncio.sleep(max(0.0, plan.seconds * 2 / 3 - plan.engine.start_s))

    # --- clients

    async def _speak(self, stream: Stream, after_s: float) -> None:
        """Speak in real time; where the gateway is lost, go on at another one."""
        await asyncio.sleep(after_s)
        began_s = asyncio.get_running_loop().time() - stream.n_sent * CHUNK_S
        draw = random.Random(id(stream))
        while True:
            gateway = self.gateways[stream.gateway]
            try:
                async with self._opened(gateway, stream) as handle:
                    await self._talk(stream, handle, gateway, began_s)
            except OverloadError:
                stream.is_refused = True
                return
            except (StreamerError, ConnectionError):
                pass
            alive = [n for n, each in enumerate(self.gateways) if not each.is_lost]
            stream.gateway = draw.choice(alive)
            await asyncio.sleep(draw.uniform(*RECONNECT_S))

    @asynccontextmanager
    async def _opened(self, gateway: Gateway, stream: Stream) -> AsyncIterator[SessionHandle]:
        handle = gateway.scheduler.open(OPTIONS, offset_s=stream.stable_s)
        self.talkers.add(handle.id, handle.state, stream.speech, stream.stable_s)
        try:
            yield handle
        finally:
            handle.detach(is_final=True)

    async def _talk(self, stream: Stream, handle: SessionHandle, gateway: Gateway, began_s: float) -> None:
        """Send what was said and is not stable yet, then go on in real time; raises ConnectionError at a loss."""
        reading = asyncio.ensure_future(_read(stream, handle))
        sent = round(stream.stable_s / CHUNK_S)
        try:
            while not gateway.is_lost:
                if sent * CHUNK_S > asyncio.get_running_loop().time() - began_s - CHUNK_S:
                    await asyncio.sleep(began_s + (sent + 1) * CHUNK_S - asyncio.get_running_loop().time())
                feeding = asyncio.ensure_future(handle.feed(CHUNK))
                await asyncio.wait({feeding, gateway.ended}, return_when=asyncio.FIRST_COMPLETED)
                sent += 1
                stream.n_sent = max(stream.n_sent, sent)
            raise ConnectionError
        finally:
            reading.cancel()

    # --- figures

    def _counts(self) -> np.ndarray:
        """Steps, rows, busy seconds, calls, rows of calls, bytes, front end's seconds, and chunks, so far."""
        places = [place for gateway in self.gateways for place in gateway.pool.places]
        return np.array(
            [
                sum(engine.n_steps for engine in self.engines),
                sum(engine.n_rows for engine in self.engines),
                max(engine.busy_s for engine in self.engines),
                sum(place.n_calls for place in places),
                sum(place.n_rows for place in places),
                sum(place.n_bytes for place in places),
                sum(gateway.thread.busy_s for gateway in self.gateways),
                sum(gateway.count("streamer_audio_seconds_total") for gateway in self.gateways),
            ]
        )

    def _figures(self, streams: Sequence[Stream], counted: np.ndarray) -> Figures:
        plan = self.plan
        steps, rows, busy_s, calls, call_rows, n_bytes, front_s, audio_s = map(float, counted)
        costs = plan.gateway
        gateway_s = front_s + audio_s * costs.audio_s + calls * costs.call_s + call_rows * costs.row_s
        delays = [delay for gateway in self.gateways for delay in gateway.step_delays_s]
        return Figures(
            n_streams=plan.n_streams,
            audio_s=round(float(audio_s), 1),
            n_words=len(self.commit_s),
            n_refused=sum(stream.is_refused for stream in streams),
            commit_p50_s=percentile(self.commit_s, 50),
            commit_p95_s=percentile(self.commit_s, 95),
            commit_max_s=max(self.commit_s),
            step_p50_s=percentile(delays, 50),
            step_p95_s=percentile(delays, 95),
            rows_per_step=rows / steps,
            rows_per_call=call_rows / calls,
            calls_per_s=calls / plan.seconds,
            steps_per_stream_s=call_rows / audio_s,
            device=busy_s / plan.seconds,
            gateway=gateway_s / plan.seconds / plan.n_gateways,
            gateway_ms_per_audio_s=1e3 * gateway_s / audio_s,
            kb_per_audio_s=n_bytes / audio_s / 1e3,
            n_moves=int(sum(gateway.count("streamer_engine_moves_total") for gateway in self.gateways)),
            n_resent=int(sum(gateway.count("streamer_engine_resent_total") for gateway in self.gateways)),
        )


async def _read(stream: Stream, handle: SessionHandle) -> None:
    async for event in handle:
        match event:
            case Ack(stable_s=stable_s):
                stream.stable_s = max(stream.stable_s, stable_s)
            case Bye():
                return


def simulate(plan: Plan) -> Figures:
    """Run one cell; the log of its parts tells warnings of a clock that nobody has, so it is left out."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    return clock.run(Cell(plan).run())
