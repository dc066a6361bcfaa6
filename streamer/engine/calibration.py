"""Measures the cost of a step on this device, with requests of typical size."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from streamer.audio.mel import FRAMES_PER_SECOND
from streamer.engine.engine import WhisperEngine
from streamer.step import StepRequest

PROBE_WINDOWS_S = (5.0, 6.0, 7.0, 8.0)
"""Lengths of a growing window under load, for the warm-up and the measurement of a step's cost."""
PROBE_PREFIX = 14
"""Committed tokens in a typical window."""
PROBE_DRAFT = 6
"""Draft tokens after them in a typical window."""


def probes(n_mels: int, n_rows: int, window_s: float = PROBE_WINDOWS_S[0]) -> list[StepRequest]:
    """
    Requests of typical size, which any healthy engine answers; the same sessions in every call.

    Args:
        n_mels: Mel bands of the model.
        n_rows: Requests, one per session.
        window_s: Length of the windows, seconds; a longer window continues the session's shorter one.
    """
    generator = torch.Generator().manual_seed(0)
    sound = torch.randn(n_rows, int(PROBE_WINDOWS_S[-1] * FRAMES_PER_SECOND), n_mels, generator=generator) - 1.0
    return [
        StepRequest(
            session=f"probe-{row}",
            log_mel=log_mel[: int(window_s * FRAMES_PER_SECOND)].T,
            window_start=0,
            prefix=tuple(range(1000, 1000 + PROBE_PREFIX)),
            draft=tuple(range(2000, 2000 + PROBE_DRAFT)),
            language="en",
            is_probe=True,
        )
        for row, log_mel in enumerate(sound)
    ]


def measure_costs(
    engine: WhisperEngine, n_mels: int, clock: Callable[[], float] = time.perf_counter
) -> tuple[float, float]:
    """
    Device time of a typical step, seconds: the fixed part, and the part that each row adds.

    The first step is the warm-up and proves that decoding works. The fastest of several steps counts: load on the
    machine only adds to them. Later the measured cost of real steps replaces this value.

    Args:
        engine: The cached windows of the probes are released afterwards.
        n_mels: Mel bands of the engine's model.
        clock: Seconds on a monotonic clock.
    """
    n_rows = -(-engine.options.max_batch // 2)
    one_s = _fastest_s(engine, n_mels, 1, clock)
    all_s = max(_fastest_s(engine, n_mels, n_rows, clock), one_s)
    row_s = (all_s - one_s) / (n_rows - 1) if n_rows > 1 else one_s
    return max(one_s - row_s, 0.0), max(row_s, one_s / (4 * n_rows))


def _fastest_s(engine: WhisperEngine, n_mels: int, n_rows: int, clock: Callable[[], float]) -> float:
    """Fastest step of growing windows; the first one, without settled positions, does not count."""
    times = []
    for window_s in PROBE_WINDOWS_S:
        requests = probes(n_mels, n_rows, window_s)
        started = clock()
        engine.step(requests)
        times.append(clock() - started)
    for request in requests:
        engine.forget(request.session)
    return min(times[1:])
