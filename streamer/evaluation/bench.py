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

from streamer.audio.files import read_audio
from streamer.audio.mel import SAMPLE_RATE
from streamer.build import Service, build
from streamer.config import Config
from streamer.errors import ConfigError, OverloadError
from streamer.evaluation.manifest import read_manifest
from streamer.evaluation.playback import LiveTranscript, transcribe_live
from streamer.evaluation.report import percentiles
from streamer.evaluation.scoring import word_scorer
from streamer.scheduling.scheduler import running

COMMIT_BOUND_S = 2.5
"""P95 from the end of a word to its being stable, within which a number of streams counts as carried."""
GAP_S = 0.6
"""Digital silence after each clip."""
STAGGER_S = 0.13
"""Between the beginnings of two streams, seconds; less where that would leave no time in which all of them speak."""
MOST_STAGGERED = 1 / 3
"""Part of a stream's length within which all have begun."""
MOST_STREAMS = 4096


@dataclass(frozen=True, slots=True)
class Clip:
    """A recording and its text."""

    samples: NDArray[np.float32]
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchOptions:
    """What is measured."""

    streams: int | None = None
    """Measure this number only; None searches for the largest that stays within the bound."""
    seconds: float = 30.0
    """Length of each stream."""
    manifest: Path | None = None
    """Speech to loop, JSON lines as for `eval`; by default the clips of the package."""
    random_weights: bool = False
    """Take the network's shape alone; for speed where the weights are not at hand."""
    admission: bool = False
    """Refuse streams beyond the measured capacity, as the daemon does."""


def run(config: Config, options: BenchOptions, json_out: Path | None) -> int:
    """
    Measure and print a table; 0 when at least one stream is carried.

    Args:
        config: Model and scheduler; its limit of sessions is lifted unless `admission` is asked for.
        options: See `BenchOptions`.
        json_out: Where to write the figures.

    Raises:
        StreamerError: The model cannot be had.
    """
    clips = read_clips(options.manifest)
    click.echo(
        f"{'streams':>7} {'commit p50':>10} {'p95':>6} {'first p50':>9} {'token ms p95':>12} "
        f"{'cpu/audio':>9} {'wer %':>6} {'refused':>7} {'ok':>3}"
    )
    results: list[dict[str, Any]] = []

    def carried(n: int) -> bool:
        result = measure(config, clips, n, options)
        results.append(result)
        click.echo(_line(result))
        return bool(result["within_bound"])

    n = options.streams
    best = (n if carried(n) else 0) if n else largest(carried)
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
    """
    The short English recordings of a manifest, or of the package.

    Raises:
        ConfigError: There are none.
    """
    path = manifest or Path(str(resources.files("streamer.evaluation") / "clips" / "manifest.jsonl"))
    rows = [row for row in read_manifest(path) if row.kind == "short" and row.language == "en"]
    if not rows:
        raise ConfigError(f'{path}: no recording of kind "short" and language "en"')
    return [Clip(read_audio(path.parent / row.file), row.text) for row in rows]


def measure(config: Config, clips: Sequence[Clip], n: int, options: BenchOptions) -> dict[str, Any]:
    """Play `n` paced streams at once to a fresh engine."""
    limit = config.scheduler.max_sessions if options.admission else n
    limited = msgspec.structs.replace(config.scheduler, max_sessions=limit)
    parts = build(msgspec.structs.replace(config, scheduler=limited), random_weights=options.random_weights)
    streams = [looped(clips, np.random.default_rng(index), options.seconds) for index in range(n)]
    before_s, started = _cpu_s(), time.perf_counter()
    heard = asyncio.run(_play(parts, config, streams))
    cpu_s, wall_s = _cpu_s() - before_s, time.perf_counter() - started
    played = [(stream, transcript) for stream, transcript in zip(streams, heard, strict=True) if transcript]
    return {"streams": n, "refused": n - len(played), **_summary(played, parts, cpu_s, wall_s)}


async def _play(parts: Service, config: Config, streams: Sequence[Clip]) -> list[LiveTranscript | None]:
    """What was heard of each stream; None of those that were refused."""
    options = msgspec.structs.replace(config.session, language="en", words=True)
    shortest_s = min(len(stream.samples) for stream in streams) / SAMPLE_RATE
    stagger_s = min(STAGGER_S, MOST_STAGGERED * shortest_s / len(streams))

    async def play_one(index: int, samples: NDArray[np.float32]) -> LiveTranscript | None:
        await asyncio.sleep(index * stagger_s)
        try:
            opened = parts.scheduler.open(options)
        except OverloadError:
            return None
        return await transcribe_live(opened, samples, realtime=True)

    async with running(parts.scheduler):
        return await asyncio.gather(*(play_one(index, stream.samples) for index, stream in enumerate(streams)))


def looped(clips: Sequence[Clip], order: np.random.Generator, seconds: float) -> Clip:
    """Clips in random order with gaps of silence, at least `seconds` long."""
    said: list[Clip] = []
    gap = np.zeros(int(GAP_S * SAMPLE_RATE), np.float32)
    while True:
        for index in order.permutation(len(clips)):
            said.append(clips[index])
            if sum(len(clip.samples) + len(gap) for clip in said) >= seconds * SAMPLE_RATE:
                samples = np.concatenate([part for clip in said for part in (clip.samples, gap)])
                return Clip(samples, " ".join(clip.text for clip in said))


def _summary(
    played: Sequence[tuple[Clip, LiveTranscript]], parts: Service, cpu_s: float, wall_s: float
) -> dict[str, Any]:
    transcripts = [transcript for _, transcript in played]
    audio_s = sum(transcript.duration_s for transcript in transcripts)
    commit = percentiles([x for transcript in transcripts for x in transcript.commit_s])
    return {
        "audio_s": round(audio_s, 1),
        "wall_s": round(wall_s, 1),
        "words": sum(len(transcript.commit_s) for transcript in transcripts),
        "word_error_rate": _word_error_rate(played),
        "commit_latency_s": commit,
        "first_partial_latency_s": percentiles([x for transcript in transcripts for x in transcript.first_sight_s]),
        "decoder_token_ms": percentiles(parts.engine_metrics.recent_token_ms()),
        "row_cost_ms": round(parts.scheduler.statistics().row_cost_s * 1e3, 2),
        "cpu_s_per_audio_s": round(cpu_s / audio_s, 4),
        "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "within_bound": commit is not None and commit["p95"] <= COMMIT_BOUND_S,
    }


def _word_error_rate(played: Sequence[tuple[Clip, LiveTranscript]]) -> float | None:
    """Over all streams; None without the libraries of the extra `eval`."""
    try:
        scorer = word_scorer()
    except ConfigError:
        return None
    scores = [scorer("en", stream.text, transcript.text) for stream, transcript in played]
    return round(sum(score.errors for score in scores) / sum(score.words for score in scores), 4)


def _cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def _line(result: dict[str, Any]) -> str:
    commit = result["commit_latency_s"] or {"p50": float("nan"), "p95": float("nan")}
    first = result["first_partial_latency_s"] or {"p50": float("nan")}
    token = result["decoder_token_ms"] or {"p95": float("nan")}
    wer = result["word_error_rate"]
    cells = (
        f"{result['streams']:>7}",
        f"{commit['p50']:>10.2f}",
        f"{commit['p95']:>6.2f}",
        f"{first['p50']:>9.2f}",
        f"{token['p95']:>12.1f}",
        f"{result['cpu_s_per_audio_s']:>9.3f}",
        f"{'-' if wer is None else f'{100 * wer:.2f}':>6}",
        f"{result['refused']:>7}",
        f"{'yes' if result['within_bound'] else 'no':>3}",
    )
    return " ".join(cells)
