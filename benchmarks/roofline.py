"""
Where the processor time of a step goes, part by part, beside what the same core needs at least.

    python -m benchmarks.roofline MANIFEST [--model tiny.en] [--rows 1,8] [--seconds 20] [--interval 1.0]

Short recordings are joined to streams and played on a simulated clock, `--rows` of them side by side, so that every
step has as many rows. One thread computes; its processor time is counted, so other work on the machine adds little. The
time of a part leaves out the parts within it. Its limit is the larger of its operations at the rate of a large plain
product and its bytes at the rate of a plain copy, both measured on this core just before. An operation is an addition
or a multiplication; bytes are those of weights, of keys and values, and of what a product reads and writes.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from prometheus_client import CollectorRegistry
from torch import Tensor

import model.decoder
import model.window_group
from benchmarks.arguments import listed, number, program, whole
from benchmarks.common import argument_parser
from model import KVCache, TextDecoder
from model.layers import HalfWeight, LayerNorm, Linear
from streamer.audio.frontend import FrontEnd
from streamer.build.engines import Engines, build_engines
from streamer.build.options import window_options
from streamer.config import Config, ModelConfig
from streamer.engine import engine as engine_module
from streamer.engine.decoding import DecodingRules
from streamer.engine.engine import WhisperEngine
from streamer.engine.window_encoder import WindowEncoder
from streamer.evaluation.bench import looped, read_clips
from streamer.evaluation.simulation import Playback, SimulatedPace, perform, simulate
from streamer.protocol.options import SessionOptions
from streamer.session.session import Session
from streamer.session.spec import SessionSpec


@dataclass(slots=True)
class Work:
    """What one part of all steps did."""

    seconds: float = 0.0
    calls: int = 0
    operations: float = 0.0
    n_bytes: float = 0.0


@dataclass(frozen=True, slots=True)
class Limits:
    """What this core can do, a second."""

    operations: float
    n_bytes: float

    def seconds(self, work: Work) -> float:
        """The least time that so much work takes."""
        return max(work.operations / self.operations, work.n_bytes / self.n_bytes)


@dataclass(slots=True)
class Profile:
    """Processor time by part; a part within a part counts for itself alone."""

    parts: dict[tuple[str, str], Work] = field(default_factory=dict)
    """By phase of the step and part."""
    n_rows: int = 0
    n_steps: int = 0
    step_s: float = 0.0
    """Of all steps, front end left out."""
    _phase: str = ""
    _inner_s: list[float] = field(default_factory=lambda: [0.0])
    """Time of the parts within each part that is open."""

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Count what follows to this phase; its own remainder is the part `rest`."""
        before, self._phase = self._phase, name
        with self.part("rest"):
            yield
        self._phase = before

    @contextmanager
    def part(self, name: str, operations: float = 0.0, n_bytes: float = 0.0) -> Iterator[None]:
        """Count what follows to a part of the present phase."""
        self._inner_s.append(0.0)
        started = time.thread_time()
        try:
            yield
        finally:
            seconds = time.thread_time() - started
            work = self.parts.setdefault((self._phase, name), Work())
            work.seconds += seconds - self._inner_s.pop()
            work.calls += 1
            work.operations += operations
            work.n_bytes += n_bytes
            self._inner_s[-1] += seconds


def main() -> None:
    """Print a table for each number of rows."""
    arguments = argument_parser(__doc__)
    arguments.add_argument("--rows", type=listed(whole()), default="1,8")
    arguments.add_argument("--seconds", type=number(0.1), default=20.0)
    arguments.add_argument("--interval", type=number(0.1), default=1.0)
    arguments.add_argument("--total", action="store_true", help="measure whole steps only: no part is told apart")
    args = arguments.parse_args()
    config = Config(model=ModelConfig(name=args.model, threads=1))
    engines = build_engines(config, CollectorRegistry())
    limits = measure_limits()
    print(f"{args.model}: {limits.operations / 1e9:.0f} GFLOPS, {limits.n_bytes / 1e9:.1f} GB/s on this core")
    for n_rows in args.rows:
        openings = _openings(config, engines, args, n_rows)
        profile = Profile()
        with profiled(profile, whole=args.total):
            texts = [t.text for t in simulate(openings, engines.engines[0], n_rows)]
        print(_table(profile, limits, n_rows, args.seconds * n_rows), flush=True)
        print(f"{sum(map(len, texts))} characters, hash {hash_of(texts)}")


def hash_of(texts: Sequence[str]) -> str:
    """A short name of these texts: equal texts have the same."""
    import hashlib

    return hashlib.sha256("\n".join(texts).encode()).hexdigest()[:12]


def _openings(config: Config, engines: Engines, args: Any, n_rows: int) -> list[Callable[[], Playback]]:
    clips = read_clips(args.manifest)
    streams = [looped(clips, np.random.default_rng(i), args.seconds) for i in range(n_rows)]
    pace = SimulatedPace(interval_s=args.interval, step_s=0.3)
    window = window_options(config, engines.facts)

    def opening(i: int) -> Playback:
        spec = SessionSpec(name=f"{i}", options=SessionOptions(language="en"), window=window, model=engines.facts)
        return perform(Session(spec), engines.front_end, streams[i].samples, pace)

    return [functools.partial(opening, i) for i in range(n_rows)]


def measure_limits() -> Limits:
    """The fastest of several plain products of 1024 by 1024 values and of several copies of 64 MB."""
    with torch.inference_mode():
        a, b, out = (torch.randn(1024, 1024) for _ in range(3))
        source = torch.ones(2**24)
        target = torch.empty_like(source)
        product_s = _fastest_s(lambda: torch.mm(a, b, out=out))
        copy_s = _fastest_s(lambda: target.copy_(source))
    return Limits(operations=2 * 1024**3 / product_s, n_bytes=2 * source.nbytes / copy_s)


def _fastest_s(call: Callable[[], object]) -> float:
    found = []
    for _ in range(20):
        started = time.thread_time()
        call()
        found.append(time.thread_time() - started)
    return min(found)


# --- what is told apart


@contextmanager
def profiled(profile: Profile, *, whole: bool = False) -> Iterator[None]:
    """Count the work of every part in `profile`; `whole`: of whole steps and the front end alone."""
    with ExitStack() as stack:
        stack.enter_context(patch.object(WhisperEngine, "step", _step(profile)))
        if not whole:
            for target, name, wrapper in _wrappers(profile):
                stack.enter_context(patch.object(target, name, wrapper(getattr(target, name))))
        yield


def _step(profile: Profile) -> Callable[..., Any]:
    step = WhisperEngine.step

    def counted(engine: WhisperEngine, batch: Sequence[Any]) -> Any:
        started = time.thread_time()
        with profile.phase("step"):
            results = step(engine, batch)
        profile.step_s += time.thread_time() - started
        profile.n_rows += len(batch)
        profile.n_steps += 1
        return results

    return counted


def _wrappers(profile: Profile) -> list[tuple[Any, str, Callable[[Callable[..., Any]], Callable[..., Any]]]]:
    def phase(name: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        def wrap(call: Callable[..., Any]) -> Callable[..., Any]:
            def counted(*args: Any, **kwargs: Any) -> Any:
                with profile.phase(name):
                    return call(*args, **kwargs)

            return counted

        return wrap

    def part(name: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        def wrap(call: Callable[..., Any]) -> Callable[..., Any]:
            def counted(*args: Any, **kwargs: Any) -> Any:
                with profile.part(name):
                    return call(*args, **kwargs)

            return counted

        return wrap

    def product(call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(linear: Linear, x: Tensor, **kwargs: Any) -> Any:
            n_in, n_out = linear.in_features, linear.out_features
            n = x.numel() // n_in
            width = 1 if linear.is_rounded else 2 if isinstance(linear.packed, HalfWeight) else x.element_size()
            n_bytes = width * n_in * n_out + x.element_size() * n * (n_in + n_out)
            with profile.part("products", 2.0 * n * n_in * n_out, n_bytes):
                return call(linear, x, **kwargs)

        return counted

    def vocabulary(call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(decoder: TextDecoder, hidden: Tensor) -> Any:
            weight = decoder.token_embedding.weight
            width = 1 if decoder.screened_embedding is not None else weight.element_size()
            n_bytes = width * weight.numel() + 4.0 * len(hidden) * len(weight)
            with profile.part("vocabulary", 2.0 * len(hidden) * weight.numel(), n_bytes):
                return call(decoder, hidden)

        return counted

    def attention(call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(q: Tensor, k: Tensor, v: Tensor, *args: Any, **kwargs: Any) -> Any:
            operations = 4.0 * q.numel() * k.shape[2]
            with profile.part("attention", operations, k.numel() * 2 * k.element_size()):
                return call(q, k, v, *args, **kwargs)

        return counted

    return [
        (WindowEncoder, "encode", phase("encode")),
        (WhisperEngine, "_verify", phase("verify")),
        (WhisperEngine, "_decode", phase("decode")),
        (WhisperEngine, "_results", phase("times")),
        (FrontEnd, "extract", phase("front end")),
        (FrontEnd, "_judge", part("voice")),
        (Linear, "forward", product),
        (TextDecoder, "screen", vocabulary),
        (LayerNorm, "forward", part("layer norm")),
        (model.decoder, "attend", attention),
        (model.window_group, "attend", attention),
        (DecodingRules, "choose", part("choice")),
        (KVCache, "plan_append", part("plan")),
        (KVCache, "append", part("append")),
        (KVCache, "set_audio", part("set audio")),
        (model.window_group.WindowGroup, "_new_buffer", part("key buffers")),
        (TextDecoder, "align", part("scores")),
        (engine_module, "alignment_cost", part("cost")),
        (engine_module, "monotone_starts", part("path")),
    ]


def _table(profile: Profile, limits: Limits, n_rows: int, sound_s: float) -> str:
    n = profile.n_rows
    lines = [
        f"\n{n_rows} rows a step: {profile.n_steps} steps, {1e3 * profile.step_s / n:.2f} ms a row, "
        f"{1e3 * profile.step_s / sound_s:.1f} ms a second of sound",
        "| phase | part | ms a row | % | calls a step | Mop a row | MB a row | limit ms | times the limit |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for (phase, part), work in sorted(profile.parts.items(), key=lambda each: -each[1].seconds):
        limit = limits.seconds(work)
        ratio = f"{work.seconds / limit:.1f}" if limit else ""
        lines.append(
            f"| {phase} | {part} | {1e3 * work.seconds / n:.2f} | {100 * work.seconds / profile.step_s:.1f} "
            f"| {work.calls / profile.n_steps:.0f} | {work.operations / n / 1e6:.0f} | {work.n_bytes / n / 1e6:.1f} "
            f"| {1e3 * limit / n:.2f} | {ratio} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    program(main)
