"""
A table of faults: each is tried several times under real speech; what is lost, who is hurt, how long until all is well.

    python -m benchmarks.faults MANIFEST [--times 6] [--every 10] [--streams 3] [--model tiny.en]

The first speaker's connection goes through a proxy, the others' do not. Faults of the network hit it alone; faults of
the process and of its device hit all. Words are compared with what was said, and with what two undisturbed performances
made of it: a live text depends a little on when each step happens to run. Silence is the longest time without an
event from the beginning of a fault to the next one; undisturbed an event comes twice a second.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import signal
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from benchmarks.cuts import Talk, errors, paced, talks
from benchmarks.served import daemon, free_port
from streamer.client.client import Start, TurnEnd, connect
from tests.helpers.fault_proxy import FaultProxy, fault_proxy

FIRST_S = 6.0
"""Speech before the first fault."""
STANDS_STILL_S = 3.0


@dataclass
class Heard:
    """What one speaker got, and when."""

    turns: dict[int, str] = field(default_factory=dict)
    times_s: list[float] = field(default_factory=list)

    @property
    def text(self) -> str:
        """All turns."""
        return " ".join(self.turns[turn] for turn in sorted(self.turns))

    def silent_s(self, since_s: float, until_s: float) -> float:
        """Longest time without any event between two instants, or from there to the first one after."""
        heard_s = [since_s, *(at_s for at_s in self.times_s if at_s > since_s)]
        return max(b - a for a, b in itertools.pairwise([*heard_s, float("inf")]) if a < until_s)


class Stage:
    """A daemon that can be started again, and the network of the first speaker."""

    def __init__(self, port: int, proxy: FaultProxy, fault: Fault, model: str, n_streams: int) -> None:
        self.port, self.proxy = port, proxy
        self._fault, self._model, self._n_streams = fault, model, n_streams
        self._running = contextlib.AsyncExitStack()
        self.process: psutil.Process | None = None

    async def start(self) -> None:
        """Until it serves."""
        sessions = {"STREAMER_SCHEDULER_MAX_SESSIONS": str(2 * self._n_streams)}
        served = daemon(
            self.port, "--model", self._model, end=self._fault.end, module="benchmarks.failing_daemon", **sessions
        )
        self.process = await self._running.enter_async_context(served)

    async def stop(self) -> None:
        """As the fault has it."""
        await self._running.aclose()

    def send(self, number: signal.Signals) -> None:
        """A signal to the daemon."""
        assert self.process is not None
        self.process.send_signal(number)


async def nothing(stage: Stage) -> None:
    """Undisturbed."""


async def cut(stage: Stage) -> None:
    """Both ends are reset."""
    stage.proxy.cut()


async def stand_still(stage: Stage) -> None:
    """No byte for some seconds."""
    stage.proxy.flows.clear()
    await asyncio.sleep(STANDS_STILL_S)
    stage.proxy.flows.set()


async def pause(stage: Stage) -> None:
    """The process stands still for some seconds."""
    stage.send(signal.SIGSTOP)
    await asyncio.sleep(STANDS_STILL_S)
    stage.send(signal.SIGCONT)


async def restart(stage: Stage) -> None:
    """The process ends and another one is started at once."""
    await stage.stop()
    await stage.start()


async def lose_device(stage: Stage) -> None:
    """Every engine fails until it is built again."""
    stage.send(signal.SIGUSR1)


@dataclass(frozen=True)
class Fault:
    """What is done, and to whom."""

    name: str
    strike: Callable[[Stage], Awaitable[None]]
    hits_all: bool = False
    end: signal.Signals = signal.SIGTERM


FAULTS = (
    Fault("none", nothing),
    Fault("none, again", nothing),
    Fault("connection reset", cut),
    Fault(f"network silent for {STANDS_STILL_S:.0f} s", stand_still),
    Fault(f"process stopped for {STANDS_STILL_S:.0f} s", pause, hits_all=True),
    Fault("device lost", lose_device, hits_all=True),
    Fault("SIGTERM, started again", restart, hits_all=True),
    Fault("SIGKILL, started again", restart, hits_all=True, end=signal.SIGKILL),
)


async def speak(talk: Talk, port: int, heard: Heard) -> None:
    """Say it in real time, whatever becomes of the connections."""
    async with connect(f"ws://127.0.0.1:{port}", Start(language="en")) as captions:
        async for event in captions.transcribe(paced(talk.pcm)):
            heard.times_s.append(time.monotonic())
            if isinstance(event, TurnEnd):
                heard.turns[event.turn] = event.text


async def perform(fault: Fault, said: Sequence[Talk], args: argparse.Namespace) -> tuple[list[Heard], list[float]]:
    """All speak while the fault strikes again and again; what they heard, and when it struck."""
    port = free_port()
    async with fault_proxy(port) as proxy:
        stage = Stage(port, proxy, fault, args.model, len(said))
        await stage.start()
        heard = [Heard() for _ in said]
        ports = [proxy.port, *[port] * (len(said) - 1)]
        speaking = asyncio.gather(*(speak(*each) for each in zip(said, ports, heard, strict=True)))
        struck_s = []
        await asyncio.sleep(FIRST_S)
        for _ in range(args.times):
            struck_s.append(time.monotonic())
            await fault.strike(stage)
            await asyncio.sleep(args.every)
        await speaking
        await stage.stop()
    return heard, struck_s


def row(fault: Fault, said: Sequence[Talk], heard: Sequence[Heard], struck_s: Sequence[float], every_s: float) -> str:
    """One line of the table."""
    n_hit = len(said) if fault.hits_all else 1
    spans_s = list(itertools.pairwise([*struck_s, struck_s[-1] + every_s]))
    waits_s = [one.silent_s(*span_s) for one in heard[:n_hit] for span_s in spans_s]
    words = errors([talk.text for talk in said], [one.text for one in heard])
    beside_s = [one.silent_s(*span_s) for one in heard[n_hit:] for span_s in spans_s]
    beside = f"{max(beside_s):.2f}" if beside_s else ""
    return (
        f"| {fault.name} | {len(struck_s)} x {n_hit} | {words['missing']} | {words['added']} | {words['substituted']} "
        f"| {statistics.median(waits_s):.2f} | {max(waits_s):.2f} | {beside} |"
    )


def main() -> None:
    """Print one markdown table."""
    arguments = argparse.ArgumentParser()
    arguments.add_argument("manifest", type=Path)
    arguments.add_argument("--model", default="tiny.en")
    arguments.add_argument("--times", type=int, default=6)
    arguments.add_argument("--every", type=float, default=10.0, help="seconds between two faults")
    arguments.add_argument("--streams", type=int, default=3)
    args = arguments.parse_args()
    said = talks(args.manifest, args.streams, FIRST_S + args.times * (args.every + STANDS_STILL_S))
    n_words = sum(len(talk.text.split()) for talk in said)
    print(f"{args.model}, {args.streams} speakers, {n_words} words\n")
    print("| fault | tried x sessions | words missing | added | substituted | silence P50, s | max | others, max |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|", flush=True)
    for fault in FAULTS:
        heard, struck_s = asyncio.run(perform(fault, said, args))
        print(row(fault, said, heard, struck_s, args.every), flush=True)


if __name__ == "__main__":
    main()
