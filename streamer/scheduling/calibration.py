"""Measures the cost of a step on this device, with requests of typical size."""

from __future__ import annotations

import functools
import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch

from streamer.audio.mel import FRAMES_PER_SECOND
from streamer.scheduling.load import MeasuredCosts, StepCosts, costs_of, least
from streamer.step import Engine, StepRequest

PROBE_WINDOWS_S = (5.0, 6.0, 7.0, 8.0)
"""Lengths of a growing window under load, for the warm-up and the measurement of a step's cost."""
PROBE_PREFIX = 14
"""Committed tokens in a typical window."""
PROBE_DRAFT = 6
"""Draft tokens after them in a typical window."""
MOST_ROUNDS = 4
"""Measurements at the start at most."""
MOST_START_S = 3.0
"""Time after which no further measurement begins at the start, seconds: nobody is served meanwhile."""
SAME = 1.05
"""Measurements at the start end when the least cost has been seen twice, within this factor."""


@dataclass(frozen=True, slots=True)
class Clocks:
    """Two monotonic clocks, in seconds."""

    work: Callable[[], float] = time.thread_time
    """CPU time of the calling thread; where the device is no CPU, the same as `wall`."""
    wall: Callable[[], float] = time.perf_counter


@dataclass(frozen=True, slots=True)
class Timing:
    """Duration of one step by both clocks, seconds."""

    work_s: float
    wall_s: float


def probes(name: str, n_mels: int, n_rows: int, window_s: float = PROBE_WINDOWS_S[0]) -> list[StepRequest]:
    """
    Requests of typical size, which any healthy engine answers.

    Args:
        name: Of the sessions. Between two calls with the same name their windows may only grow, or must be forgotten.
        n_mels: Mel bands of the model.
        n_rows: Requests, one per session.
        window_s: Length of the windows, seconds; a longer window continues the session's shorter one.
    """
    generator = torch.Generator().manual_seed(0)
    sound = torch.randn(n_rows, int(PROBE_WINDOWS_S[-1] * FRAMES_PER_SECOND), n_mels, generator=generator) - 1.0
    return [
        StepRequest(
            session=f"{name}-{row}",
            log_mel=log_mel[: int(window_s * FRAMES_PER_SECOND)].T,
            window_start=0,
            prefix=tuple(range(1000, 1000 + PROBE_PREFIX)),
            draft=tuple(range(2000, 2000 + PROBE_DRAFT)),
            language="en",
            is_probe=True,
        )
        for row, log_mel in enumerate(sound)
    ]


def time_step(engine: Engine, batch: Sequence[StepRequest], clocks: Clocks) -> Timing:
    """
    Run one step on the calling thread and measure it.

    Args:
        engine: Caches the windows of the requests until `forget`.
        batch: The requests.
        clocks: What is read before and after.

    Raises:
        EngineError: As `Engine.step`.
    """
    work_s, wall_s = clocks.work(), clocks.wall()
    engine.step(batch)
    return Timing(clocks.work() - work_s, clocks.wall() - wall_s)


class CostProbe:
    """
    The steps of one measurement: growing windows of one row, then growing windows of half a full batch.

    Args:
        n_mels: Mel bands of the model.
        max_batch: Rows of a step at most.
    """

    def __init__(self, n_mels: int, max_batch: int) -> None:
        self._n_mels = n_mels
        self.n_rows = -(-max_batch // 2)

    def batches(self) -> Iterator[list[StepRequest]]:
        """The steps, in the order in which they are to be run."""
        for name, n_rows in self._series():
            for window_s in PROBE_WINDOWS_S:
                yield probes(name, self._n_mels, n_rows, window_s)

    def sessions(self) -> list[str]:
        """Sessions that the engine is to forget after the last step."""
        series = (probes(name, self._n_mels, n_rows) for name, n_rows in self._series())
        return [request.session for request in itertools.chain.from_iterable(series)]

    def prove(self, engine: Engine) -> None:
        """
        Run one step, which proves that decoding works; nothing is measured, and nothing of it stays cached.

        Raises:
            EngineError: The step failed.
        """
        [request] = probes("proof", self._n_mels, 1)
        engine.step([request])
        engine.forget(request.session)

    def _series(self) -> tuple[tuple[str, int], ...]:
        """Name and rows of each series of growing windows."""
        return ("cost-one", 1), ("cost-many", self.n_rows)

    def costs(self, timings: Sequence[Timing]) -> MeasuredCosts:
        """
        Costs from the timings of all `batches`.

        The fastest step of each size counts: load on the machine only adds. The first one of each size, the warm-up
        without settled positions, does not.
        """
        n, n_rows = len(PROBE_WINDOWS_S), self.n_rows
        one, many = timings[1:n], timings[n + 1 :]
        return MeasuredCosts(
            work=costs_of(min(each.work_s for each in one), min(each.work_s for each in many), n_rows),
            wall=costs_of(min(each.wall_s for each in one), min(each.wall_s for each in many), n_rows),
            n_rows=n_rows,
        )


def measure_costs(engine: Engine, probe: CostProbe, clocks: Clocks) -> StepCosts:
    """
    Device time of a typical step at the start: the least of up to `MOST_ROUNDS` measurements in `MOST_START_S`.

    The first step is the warm-up and proves that decoding works. Later measurements, and real steps, correct the
    result.

    Args:
        engine: The cached windows of the probe are released afterwards.
        probe: The steps to run.
        clocks: The CPU time of the calling thread counts.

    Raises:
        EngineError: A step failed.
    """
    began_s = clocks.wall()
    found = [_measure(engine, probe, clocks)]
    while (
        len(found) < MOST_ROUNDS and clocks.wall() - began_s < MOST_START_S and not _is_seen_twice(found, probe.n_rows)
    ):
        found.append(_measure(engine, probe, clocks))
    return functools.reduce(functools.partial(least, n_rows=probe.n_rows), found)


def _measure(engine: Engine, probe: CostProbe, clocks: Clocks) -> StepCosts:
    measured = probe.costs([time_step(engine, batch, clocks) for batch in probe.batches()])
    for session in probe.sessions():
        engine.forget(session)
    return measured.work


def _is_seen_twice(found: Sequence[StepCosts], n_rows: int) -> bool:
    """Whether the least duration of a step of `n_rows` rows has been measured twice, within `SAME`."""
    fastest = sorted(costs.step_s(n_rows) for costs in found)
    return len(fastest) > 1 and fastest[1] <= SAME * fastest[0]
