"""
A table of faults under real speech: words lost, sessions hurt, and seconds until events come again.

    python -m benchmarks.faults MANIFEST [--times 6] [--every 10] [--streams 3] [--model tiny.en]

The connection of the first speaker goes through a proxy, those of the others do not. Faults of the network hit the
first speaker alone; faults of the process and of its device hit all. Words are compared with the references; the two
rows without a fault show how much that varies, as a live text depends a little on when its steps happen to run.
Silence is the longest time without an event between a fault and the next one; undisturbed, an event comes twice a
second.
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

import psutil

from benchmarks.arguments import number, program, whole
from benchmarks.common import argument_parser, paced, word_errors
from benchmarks.cuts import Talk, talks
from benchmarks.served import daemon, free_port
from streamer.client import Start, TurnEnd, connect
from tests.helpers.fault_proxy import FaultProxy, fault_proxy

FIRST_S = 6.0
"""Speech before the first fault."""
STANDS_STILL_S = 3.0
"""Length of the faults in which network or process stand still."""


@dataclass
class Received:
    """What one speaker received, and when."""

    turns: dict[int, str] = field(default_factory=dict)
    times_s: list[float] = field(default_factory=list)

    @property
    def text(self) -> str:
        """All turns."""
        return " ".join(self.turns[turn] for turn in sorted(self.turns))

    def silent_s(self, since_s: float, until_s: float) -> float:
        """Longest time without an event that begins between two instants."""
        times_s = [since_s, *(at_s for at_s in self.times_s if at_s > since_s)]
        return max(b - a for a, b in itertools.pairwise([*times_s, float("inf")]) if a < until_s)


class Stage:
    """A daemon that can be started again, and the proxy of the first speaker."""

    def __init__(self, port: int, proxy: FaultProxy, fault: Fault, model: str, n_streams: int) -> None:
        self.port, self.proxy = port, proxy
        self._fault, self._model, self._n_streams = fault, model, n_streams
        self._running = contextlib.AsyncExitStack()
        self.process: psutil.Process | None = None

    async def start(self) -> None:
        """Start the daemon, and wait until it serves."""
        sessions = {"STREAMER_SCHEDULER_MAX_SESSIONS": str(2 * self._n_streams)}
        served = daemon(
            self.port,
            "--model",
            self._model,
            end=self._fault.end,
            module="benchmarks.failing_daemon",
            variables=sessions,
        )
        self.process = await self._running.enter_async_context(served)

    async def stop(self) -> None:
        """Stop the daemon by the signal of the fault."""
        await self._running.aclose()

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the daemon."""
        assert self.process is not None
        self.process.send_signal(number)


async def nothing(stage: Stage) -> None:
    """Do nothing."""


async def cut(stage: Stage) -> None:
    """Reset both ends of the connection."""
    stage.proxy.cut()


async def stand_still(stage: Stage) -> None:
    """Hold back every byte for `STANDS_STILL_S`."""
    stage.proxy.flows.clear()
    await asyncio.sleep(STANDS_STILL_S)
    stage.proxy.flows.set()


async def pause(stage: Stage) -> None:
    """Stop the process for `STANDS_STILL_S`."""
    stage.send(signal.SIGSTOP)
    await asyncio.sleep(STANDS_STILL_S)
    stage.send(signal.SIGCONT)


async def restart(stage: Stage) -> None:
    """End the process and start another one at once."""
    await stage.stop()
    await stage.start()


async def lose_device(stage: Stage) -> None:
    """Make every engine fail until it is built again."""
    stage.send(signal.SIGUSR1)


@dataclass(frozen=True)
class Fault:
    """What is done, and which sessions it hits."""

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


async def speak(talk: Talk, port: int, received: Received) -> None:
    """
    Speak in real time until the session is over, however often the connection is lost.

    Args:
        talk: What is said.
        port: Of the daemon or of the proxy.
        received: Filled meanwhile.
    """
    async with connect(f"ws://127.0.0.1:{port}", Start(language="en")) as captions:
        async for event in captions.transcribe(paced(talk.pcm)):
            received.times_s.append(time.monotonic())
            if isinstance(event, TurnEnd):
                received.turns[event.turn] = event.text


async def perform(fault: Fault, said: Sequence[Talk], args: argparse.Namespace) -> tuple[list[Received], list[float]]:
    """
    Let all speakers speak while a fault strikes again and again.

    Args:
        fault: What strikes.
        said: A talk for each speaker.
        args: `model`, `times` and `every`.

    Returns:
        What each speaker received, and when the fault struck.
    """
    port = free_port()
    async with fault_proxy(port) as proxy:
        stage = Stage(port, proxy, fault, args.model, len(said))
        await stage.start()
        received = [Received() for _ in said]
        ports = [proxy.port, *[port] * (len(said) - 1)]
        speaking = asyncio.gather(*(speak(*each) for each in zip(said, ports, received, strict=True)))
        struck_s = []
        await asyncio.sleep(FIRST_S)
        for _ in range(args.times):
            struck_s.append(time.monotonic())
            await fault.strike(stage)
            await asyncio.sleep(args.every)
        await speaking
        await stage.stop()
    return received, struck_s


def row(
    fault: Fault, said: Sequence[Talk], received: Sequence[Received], struck_s: Sequence[float], every_s: float
) -> str:
    """
    One line of the table.

    Args:
        fault: What struck.
        said: A talk for each speaker.
        received: By each speaker.
        struck_s: When the fault struck.
        every_s: Between two strikes.
    """
    n_hit = len(said) if fault.hits_all else 1
    spans_s = list(itertools.pairwise([*struck_s, struck_s[-1] + every_s]))
    waits_s = [one.silent_s(*span_s) for one in received[:n_hit] for span_s in spans_s]
    words = word_errors([talk.text for talk in said], [one.text for one in received])
    beside_s = [one.silent_s(*span_s) for one in received[n_hit:] for span_s in spans_s]
    beside = f"{max(beside_s):.2f}" if beside_s else ""
    return (
        f"| {fault.name} | {len(struck_s)} x {n_hit} | {words.missing} | {words.added} | {words.substituted} "
        f"| {statistics.median(waits_s):.2f} | {max(waits_s):.2f} | {beside} |"
    )


def main() -> None:
    """Print one markdown table."""
    arguments = argument_parser(__doc__)
    arguments.add_argument("--times", type=whole(), default=6)
    arguments.add_argument("--every", type=number(0.1), default=10.0, help="seconds between two faults")
    arguments.add_argument("--streams", type=whole(), default=3)
    args = arguments.parse_args()
    said = talks(args.manifest, args.streams, FIRST_S + args.times * (args.every + STANDS_STILL_S))
    n_words = sum(len(talk.text.split()) for talk in said)
    print(f"{args.model}, {args.streams} speakers, {n_words} words\n")
    print("| fault | tried x sessions | words missing | added | substituted | silence P50, s | max | others, max |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|", flush=True)
    for fault in FAULTS:
        received, struck_s = asyncio.run(perform(fault, said, args))
        print(row(fault, said, received, struck_s, args.every), flush=True)


if __name__ == "__main__":
    program(main)
