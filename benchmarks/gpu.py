"""
Time of a step of the engine on a GPU, at the sizes of published models, with random weights.

    python -m benchmarks.gpu [--models large-v3-turbo large-v3] [--batches 1 8 32 64] [--interval 1.0] [--json OUT]

Each row of a batch is a stream that has been speaking for some time: its window is 2 to 10 s long, grows by the
interval with each step and begins anew at 10 s. Printed for each size of batch: milliseconds of a step and of its
parts, milliseconds per decoder token, how much the encoder reaches of the matrix peak measured on the same device
(padding does not count as work), and the number of streams that the device carries if it does nothing else.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import msgspec
import torch
from prometheus_client import CollectorRegistry

from benchmarks.arguments import number, program, results_file, whole
from model import ModelDimensions
from streamer.audio.mel import FRAMES_PER_SECOND
from streamer.build.engines import build_engines
from streamer.config import Config
from streamer.engine.random_engine import TOKENS_PER_SECOND, RandomEngine
from streamer.engine.row import Row
from streamer.engine.window_encoder import SettledWindow
from streamer.evaluation.percentiles import percentile
from streamer.step import StepRequest, StepResult
from streamer.telemetry.metrics import DecoderPass, EngineMetrics
from streamer.weights.names import PUBLISHED_MODELS

SHORTEST_S, LONGEST_S = 2.0, 10.0
"""Lengths of windows."""
UNSETTLED_S = 2.0
"""Text of the newest seconds, which is not committed yet."""
N_WARM, N_STEPS = 12, 24
"""Steps before the measurement, and measured steps."""
HEAD = (
    f"{'model':<15} {'batch':>5} {'step':>7} {'p95':>7} {'encode':>7} {'verify':>7} {'decode':>7} {'times':>6} "
    f"{'token p50':>9} {'p95':>6} {'TFLOP/s':>7} {'of peak':>7} {'GB':>5} {'1 step/s':>8} {'2 steps/s':>9}"
)
CEILING = 8192
"""Rows and columns of the matrices whose product is the peak."""


class TimedEngine(RandomEngine):
    """An engine that waits for the device after each part of a step, and notes how long the part took."""

    metrics: EngineMetrics

    def begin(self) -> None:
        """Forget all measurements."""
        self.spent: dict[str, list[float]] = {"encode": [], "verify": [], "decode": [], "times": []}

    def _part(self, part: str, run: Callable[[], Any]) -> Any:
        started = time.perf_counter()
        result = run()
        wait_for(self.model.device)
        self.spent[part].append(time.perf_counter() - started)
        return result

    def _encode(self, batch: Sequence[StepRequest], slots: Sequence[int]) -> list[SettledWindow]:
        settled: list[SettledWindow] = self._part("encode", lambda: RandomEngine._encode(self, batch, slots))
        return settled

    def _verify(self, rows: list[Row]) -> DecoderPass:
        verified: DecoderPass = self._part("verify", lambda: RandomEngine._verify(self, rows))
        return verified

    def _decode(self, rows: list[Row]) -> list[DecoderPass]:
        passes: list[DecoderPass] = self._part("decode", lambda: RandomEngine._decode(self, rows))
        return passes

    def _results(self, rows: list[Row]) -> list[StepResult]:
        results: list[StepResult] = self._part("times", lambda: RandomEngine._results(self, rows))
        return results


class Speaker:
    """The step requests of a stream that speaks without end."""

    def __init__(self, number: int, engine: RandomEngine, interval_s: float) -> None:
        self._session, self._engine, self._interval_s = f"speaker-{number}", engine, interval_s
        self._window, self._length_s = 0, SHORTEST_S + (LONGEST_S - SHORTEST_S) * (number * 0.618 % 1.0)
        n_mels = engine.model.dims.n_mels
        generator = torch.Generator().manual_seed(number)
        self._sound = torch.randn(int((LONGEST_S + 1) * FRAMES_PER_SECOND), n_mels, generator=generator).T - 1.0

    def request(self) -> StepRequest:
        """The next request of the window, or the first request of the next window."""
        self._length_s += self._interval_s
        if self._length_s > LONGEST_S:
            self._window, self._length_s = self._window + 1, SHORTEST_S
        words = self._engine._words
        n_committed = int((self._length_s - UNSETTLED_S) * TOKENS_PER_SECOND)
        n_drafted = max(0, int((UNSETTLED_S - self._interval_s) * TOKENS_PER_SECOND) - 1)
        return StepRequest(
            session=self._session,
            log_mel=self._sound[:, : int(self._length_s * FRAMES_PER_SECOND)],
            window_start=self._window,
            prompt=tuple(words[-60:]),
            prefix=tuple(words[:n_committed]),
            settled_tokens=max(0, n_committed - 4),
            draft=tuple(words[n_committed : n_committed + n_drafted]),
            anchor_tokens=1 if n_committed else 0,
            anchor_s=max(0.0, (n_committed - 1) / TOKENS_PER_SECOND),
            language="en",
        )


def main() -> None:
    """Print the tables."""
    arguments = argparse.ArgumentParser(description=__doc__)
    models = ["large-v3-turbo", "large-v3"]
    arguments.add_argument("--models", nargs="+", choices=PUBLISHED_MODELS, metavar="NAME", default=models)
    arguments.add_argument("--batches", nargs="+", type=whole(), default=[1, 8, 32, 64])
    arguments.add_argument("--interval", type=number(0.1), default=1.0, help="seconds of new sound in each step")
    arguments.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    arguments.add_argument("--json", type=results_file)
    chosen = arguments.parse_args()
    if chosen.device == "cuda" and not torch.cuda.is_available():
        arguments.error("torch sees no GPU: --device cpu measures the same on the CPU")
    peak = matrix_peak(chosen.device)
    print(f"{torch.cuda.get_device_name() if chosen.device == 'cuda' else 'CPU'}: {peak / 1e12:.0f} TFLOP/s, float16")
    print(HEAD)
    found = []
    for model in chosen.models:
        for row in measure(model, chosen.batches, chosen.interval, chosen.device, peak):
            found.append(row)
            print(line(row), flush=True)
    if chosen.json:
        chosen.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def measure(model: str, batches: Sequence[int], interval_s: float, device: str, peak: float) -> list[dict[str, Any]]:
    """
    One row for each size of batch.

    Args:
        model: Name of a published model.
        batches: Sizes of batches.
        interval_s: New audio in each step.
        device: cuda or cpu.
        peak: Operations per second of the best matrix product, from `matrix_peak`.
    """
    config = Config()
    config = msgspec.structs.replace(config, model=msgspec.structs.replace(config.model, name=model, device=device))
    engines = build_engines(config, CollectorRegistry(), random_weights=True)
    network, tokenizer, options, metrics = engines.model, engines.tokenizer, engines.options, engines.metrics
    del engines  # what its engine holds for the largest step is in no figure
    rows = []
    for n in batches:
        if device == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        engine = TimedEngine(network, tokenizer, replace(options, max_batch=max(8, n)), metrics)
        rows.append({"model": model, "batch": n, **steps(engine, n, interval_s, peak)})
        del engine
    return rows


def steps(engine: TimedEngine, n: int, interval_s: float, peak: float) -> dict[str, Any]:
    """
    Medians over steps.

    Args:
        engine: New.
        n: Rows of a step.
        interval_s: New audio in each step.
        peak: Operations per second of the best matrix product, from `matrix_peak`.
    """
    speakers = [Speaker(i, engine, interval_s) for i in range(n)]
    took: list[float] = []
    work: list[float] = []
    engine.begin()
    for step in range(N_WARM + N_STEPS):
        if step == N_WARM:
            engine.begin()
            engine.metrics.forget_recent()
            took, work = [], []
        batch = [speaker.request() for speaker in speakers]
        work.append(sum(encoder_flops(engine, request) for request in batch))
        started = time.perf_counter()
        engine.step(batch)
        took.append(time.perf_counter() - started)
    token_ms = engine.metrics.recent_token_ms()
    parts = {part: statistics.median(spent) * 1e3 for part, spent in engine.spent.items()}
    rate = sum(work) / sum(engine.spent["encode"])
    row_s = statistics.mean(took) / n
    return {
        "step_ms": statistics.median(took) * 1e3,
        "p95_ms": percentile(took, 95) * 1e3,
        **{f"{part}_ms": spent for part, spent in parts.items()},
        "token_ms": {"p50": percentile(token_ms, 50), "p95": percentile(token_ms, 95)},
        "encoder_flops": rate,
        "of_peak": rate / peak,
        "peak_gb": torch.cuda.max_memory_allocated() / 1e9 if torch.cuda.is_available() else 0.0,
        "streams_1": 1 / row_s,
        "streams_2": 0.5 / row_s,
    }


def encoder_flops(engine: TimedEngine, request: StepRequest) -> float:
    """Operations of the encoder on the new positions of one window."""
    options = engine.options
    n_positions = (request.log_mel.shape[1] + options.margin_frames) // 2
    known = engine.window_encoder.n_settled(request)
    return flops(engine.model.dims, n_positions - known, n_positions + 375 + 64)


def flops(dims: ModelDimensions, n: int, n_keys: int) -> float:
    """
    Operations of the encoder: products of the layers and of the stem, and attention.

    Args:
        dims: Of the model.
        n: Positions.
        n_keys: Positions that each of them attends to.
    """
    d = dims.n_audio_state
    layers = dims.n_audio_layer * (24 * d * d + 4 * d * n_keys)
    stem = 2 * 2 * 3 * dims.n_mels * d + 2 * 3 * d * d
    return n * float(layers + stem)


def matrix_peak(device: str) -> float:
    """Operations per second of the fastest of some large matrix products."""
    n = CEILING if device == "cuda" else 1024
    dtype = torch.float16 if device == "cuda" else torch.float32
    a, b = (torch.randn(n, n, device=device, dtype=dtype) for _ in range(2))
    times = []
    for _ in range(12):
        wait_for(a.device)
        started = time.perf_counter()
        a @ b
        wait_for(a.device)
        times.append(time.perf_counter() - started)
    return 2 * n**3 / min(times[2:])


def wait_for(device: torch.device) -> None:
    """Wait until a device has finished its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def line(row: dict[str, Any]) -> str:
    """A row of the table."""
    cells = (
        f"{row['model']:<15}",
        f"{row['batch']:>5}",
        *(f"{row[f'{part}_ms']:>7.1f}" for part in ("step", "p95", "encode", "verify", "decode")),
        f"{row['times_ms']:>6.1f}",
        f"{row['token_ms']['p50']:>9.2f}",
        f"{row['token_ms']['p95']:>6.2f}",
        f"{row['encoder_flops'] / 1e12:>7.0f}",
        f"{100 * row['of_peak']:>6.0f}%",
        f"{row['peak_gb']:>5.0f}",
        f"{row['streams_1']:>8.0f}",
        f"{row['streams_2']:>9.0f}",
    )
    return " ".join(cells)


if __name__ == "__main__":
    program(main)
