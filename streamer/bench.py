"""`streamer bench`: how many live streams of real speech this machine carries, and with what delay."""

from __future__ import annotations

import asyncio
import json
import resource
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import click
import msgspec
import numpy as np
from numpy.typing import NDArray

from streamer.audio_file import read_audio
from streamer.config import Config
from streamer.evaluate import read_manifest
from streamer.mel import SAMPLE_RATE
from streamer.parts import Parts, build
from streamer.recital import Recital, listen
from streamer.report import percentiles
from streamer.transcribe import running

COMMIT_BOUND_S = 2.5
"""P95 from the end of a word to its being stable, within which a number of streams counts as carried."""
GAP_S = 0.6
STAGGER_S = 0.13
MOST_STREAMS = 4096


@dataclass(frozen=True, slots=True)
class Clip:
    """A recording and its text."""

    samples: NDArray[np.float32]
    text: str


def run(
    config: Config,
    streams: int | None,
    seconds: float,
    json_out: Path | None,
    random_weights: bool,
    manifest: Path | None = None,
) -> int:
    """
    Measure and print a table; 0 when at least one stream is carried.

    Args:
        config: Model and scheduler; its limit of sessions is lifted.
        streams: Measure this number only; None searches for the largest that stays within the bound.
        seconds: Length of each stream.
        json_out: Where to write the figures.
        random_weights: Take the network's shape alone; for speed where the weights are not at hand.
        manifest: Speech to loop, JSON lines as for `eval`; by default the clips of the package.

    Raises:
        StreamerError: The model cannot be had.
    """
    clips = read_clips(manifest)
    click.echo(
        f"{'streams':>7} {'commit p50':>10} {'p95':>6} {'first p50':>9} {'token ms p95':>12} {'cpu/audio':>9} {'ok':>3}"
    )
    results: list[dict[str, Any]] = []

    def carried(n: int) -> bool:
        result = measure(config, clips, n, seconds, random_weights=random_weights)
        results.append(result)
        click.echo(_line(result))
        return bool(result["within_bound"])

    best = (streams if carried(streams) else 0) if streams else largest(carried)
    report = {"model": config.model.name, "bound_s": COMMIT_BOUND_S, "streams": best, "results": results}
    if json_out:
        json_out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    click.echo(f"{best} live streams within p95 {COMMIT_BOUND_S} s")
    return 0 if best else 1


def largest(carried: Callable[[int], bool]) -> int:
    """The largest n up to `MOST_STREAMS` for which `carried(n)` holds: doubling, then halving the gap to a tenth."""
    low, high = 0, 1
    while high <= MOST_STREAMS and carried(high):
        low, high = high, 2 * high
    while high <= MOST_STREAMS and high - low > max(1, low // 10):
        middle = (low + high) // 2
        low, high = (middle, high) if carried(middle) else (low, middle)
    return low


def read_clips(manifest: Path | None) -> list[Clip]:
    """The short English recordings of a manifest, or of the package."""
    path = manifest or Path(str(resources.files("streamer") / "speech" / "manifest.jsonl"))
    rows = [row for row in read_manifest(path) if row.kind == "short" and row.language == "en"]
    return [Clip(read_audio(path.parent / row.file), row.text) for row in rows]


def measure(config: Config, clips: Sequence[Clip], n: int, seconds: float, *, random_weights: bool) -> dict[str, Any]:
    """Play `n` paced streams at once to a fresh engine."""
    unlimited = msgspec.structs.replace(config.scheduler, max_sessions=max(n, 1))
    parts = build(msgspec.structs.replace(config, scheduler=unlimited), random_weights=random_weights)
    before_s, started = _cpu_s(), time.perf_counter()
    recitals = asyncio.run(_play(parts, config, clips, n, seconds))
    cpu_s, wall_s = _cpu_s() - before_s, time.perf_counter() - started
    return _summary(n, recitals, parts, cpu_s, wall_s)


async def _play(parts: Parts, config: Config, clips: Sequence[Clip], n: int, seconds: float) -> list[Recital]:
    options = msgspec.structs.replace(config.session, language="en", words=True)

    async def play_one(index: int) -> Recital:
        await asyncio.sleep(index * STAGGER_S)
        samples = looped(clips, np.random.default_rng(index), seconds)
        return await listen(parts.scheduler.open(options), samples, realtime=True)

    async with running(parts.scheduler):
        return await asyncio.gather(*(play_one(index) for index in range(n)))


def looped(clips: Sequence[Clip], order: np.random.Generator, seconds: float) -> NDArray[np.float32]:
    """Clips in random order with gaps of silence, at least `seconds` long."""
    parts: list[NDArray[np.float32]] = []
    n = 0
    while n < seconds * SAMPLE_RATE:
        for index in order.permutation(len(clips)):
            parts += [clips[index].samples, np.zeros(int(GAP_S * SAMPLE_RATE), np.float32)]
            n += sum(len(part) for part in parts[-2:])
            if n >= seconds * SAMPLE_RATE:
                break
    return np.concatenate(parts)


def _summary(n: int, recitals: Sequence[Recital], parts: Parts, cpu_s: float, wall_s: float) -> dict[str, Any]:
    audio_s = sum(recital.duration_s for recital in recitals)
    commit = percentiles([x for recital in recitals for x in recital.commit_s])
    return {
        "streams": n,
        "audio_s": round(audio_s, 1),
        "wall_s": round(wall_s, 1),
        "words": sum(len(recital.commit_s) for recital in recitals),
        "commit_latency_s": commit,
        "first_partial_latency_s": percentiles([x for recital in recitals for x in recital.first_sight_s]),
        "decoder_token_ms": percentiles(parts.engine_metrics.recent_token_ms()),
        "row_cost_ms": round(parts.scheduler.statistics().row_cost_s * 1e3, 2),
        "cpu_s_per_audio_s": round(cpu_s / audio_s, 4),
        "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "within_bound": commit is not None and commit["p95"] <= COMMIT_BOUND_S,
    }


def _cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def _line(result: dict[str, Any]) -> str:
    commit = result["commit_latency_s"] or {"p50": float("nan"), "p95": float("nan")}
    first = result["first_partial_latency_s"] or {"p50": float("nan")}
    token = result["decoder_token_ms"] or {"p95": float("nan")}
    cells = (
        f"{result['streams']:>7}",
        f"{commit['p50']:>10.2f}",
        f"{commit['p95']:>6.2f}",
        f"{first['p50']:>9.2f}",
        f"{token['p95']:>12.1f}",
        f"{result['cpu_s_per_audio_s']:>9.3f}",
        f"{'yes' if result['within_bound'] else 'no':>3}",
    )
    return " ".join(cells)
