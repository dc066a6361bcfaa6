"""`streamer bench`: how many live streams of real speech this machine carries, and with which latency."""

from __future__ import annotations

import asyncio
import gc
import resource
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import click
import msgspec
import numpy as np
import torch
from numpy.typing import NDArray

from streamer.audio.files import read_audio
from streamer.audio.pcm import SAMPLE_RATE
from streamer.build.service import Service
from streamer.config import Config
from streamer.errors import ConfigError, OverloadError
from streamer.evaluation.figures import to_json
from streamer.evaluation.latency import LiveTranscript
from streamer.evaluation.manifest import read_manifest
from streamer.evaluation.percentiles import Percentiles, percentiles
from streamer.evaluation.playback import transcribe_live
from streamer.evaluation.scoring import word_scorer
from streamer.gateway import build_service
from streamer.scheduling.scheduler import running

COMMIT_BOUND_S = 2.5
"""A number of streams is carried if the P95 from the end of a word to its commit is at most this."""
GAP_S = 0.6
"""Digital silence after each clip."""
STAGGER_S = 0.13
"""Between the starts of two streams; less where the last ones would have no time beside all others."""
MOST_STAGGERED = 1 / 3
"""Part of a stream's length by which all streams have started."""
MOST_STREAMS = 4096


@dataclass(frozen=True, slots=True)
class Clip:
    """A recording and its text."""

    samples: NDArray[np.float32]
    """(n,), mono at 16 kHz."""
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchOptions:
    """How many streams are measured, of which speech, and what is written."""

    streams: int | None = None
    """Measure this number alone; None searches for the largest that is carried."""
    seconds: float = 30.0
    """Length of each stream."""
    manifest: Path | None = None
    """Speech to loop, a manifest as for `streamer eval`; None for the clips of the package."""
    random_weights: bool = False
    """Build the network with random weights: speed can be measured where the weights are not on this machine."""
    admission: bool = False
    """Refuse streams beyond the measured capacity, as the daemon does."""
    json_out: Path | None = None
    """Write the figures to this file."""


class StreamsFigures(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured with one number of streams."""

    streams: int
    refused: int
    """Streams that admission control refused; they are in none of the other figures."""
    audio_s: float
    """Of all streams."""
    wall_s: float
    words: int
    """Committed."""
    word_error_rate: float | None
    """None where the extra `eval` is not installed, or nobody spoke."""
    commit_latency_s: Percentiles | None
    """From the end of a word to the event that makes it stable."""
    first_partial_latency_s: Percentiles | None
    """From the end of a word to the first event that shows it."""
    decoder_token_ms: Percentiles | None
    row_cost_ms: float
    """Of one session in a step, as the scheduler measured it last."""
    cpu_s_per_audio_s: float | None
    """Processor time of this process, which feeds the streams too, without that of engine processes; None: no audio."""
    peak_rss_mb: int
    """Of this process since it began: numbers of streams that were measured before count too."""
    within_bound: bool
    """Whether the P95 of `commit_latency_s` is within `COMMIT_BOUND_S`."""

    @property
    def carried(self) -> int:
        """Streams that were taken and kept the bound; 0 where they did not keep it."""
        return self.streams - self.refused if self.within_bound else 0


class BenchFigures(msgspec.Struct, frozen=True, kw_only=True):
    """What `streamer bench --json` writes: the names of the fields are part of the interface of the command."""

    model: str
    bound_s: float
    streams: int
    """The largest number that was carried, 0 for none."""
    results: tuple[StreamsFigures, ...]
    """In the order in which they were measured."""


Measure = Callable[[Config, Sequence[Clip], int, BenchOptions], StreamsFigures]


def run(config: Config, options: BenchOptions, measure: Measure | None = None) -> int:
    """
    Measure, print a line for each number of streams, and write the figures.

    Args:
        config: Model and scheduler; `scheduler.max_sessions` holds only with `options.admission`.
        options: How many streams are measured, of which speech, and what is written.
        measure: Measures one number of streams; None for `measure_streams`.

    Returns:
        Exit code: 0 if the number asked for, but for those refused, or any at all, is carried, else 1.

    Raises:
        StreamerError: There is no model or no speech.
    """
    clips = read_clips(options.manifest)
    click.echo(
        f"{'streams':>7} {'commit p50':>10} {'p95':>6} {'first p50':>9} {'token ms p95':>12} "
        f"{'cpu/audio':>9} {'wer %':>6} {'refused':>7} {'ok':>3}"
    )
    results: list[StreamsFigures] = []

    def carried(n: int) -> int:
        results.append((measure or measure_streams)(config, clips, n, options))
        click.echo(_line(results[-1]))
        return results[-1].carried

    best = carried(options.streams) if options.streams else largest(lambda n: carried(n) == n)
    if options.json_out:
        figures = BenchFigures(model=config.model.name, bound_s=COMMIT_BOUND_S, streams=best, results=tuple(results))
        options.json_out.write_text(to_json(figures), encoding="utf-8")
    click.echo(f"{best} live streams within p95 {COMMIT_BOUND_S} s")
    return 0 if best else 1


def largest(carried: Callable[[int], bool]) -> int:
    """
    Search the largest number of streams that is carried: double, then halve the gap until it is a tenth of the number.

    Returns:
        At most `MOST_STREAMS`; 0 where not even one stream is carried.
    """
    low, high = 0, 1
    while high <= MOST_STREAMS and carried(high):
        low, high = high, 2 * high
    while high <= MOST_STREAMS and high - low > max(1, low // 10):
        middle = (low + high) // 2
        low, high = (middle, high) if carried(middle) else (low, middle)
    return low


def read_clips(manifest: Path | None) -> list[Clip]:
    """
    The short English recordings of a manifest, or of the package for None.

    Raises:
        ConfigError: The manifest has no such recording.
    """
    path = manifest or Path(str(resources.files("streamer.evaluation") / "clips" / "manifest.jsonl"))
    rows = [row for row in read_manifest(path) if row.kind == "short" and row.language == "en"]
    if not rows:
        raise ConfigError(f'{path}: no recording of kind "short" and language "en"')
    return [Clip(read_audio(path.parent / row.file), row.text) for row in rows]


def measure_streams(config: Config, clips: Sequence[Clip], n: int, options: BenchOptions) -> StreamsFigures:
    """
    Play `n` streams in real time to a new engine.

    Args:
        config: Model and scheduler.
        clips: What the streams are made of; each stream has an order of its own, the same in every run.
        n: Number of streams.
        options: `seconds`, `random_weights` and `admission` count here.

    Raises:
        StreamerError: There is no model.
    """
    _give_back()
    limit = config.scheduler.max_sessions if options.admission else n
    limited = msgspec.structs.replace(config.scheduler, max_sessions=limit)
    service = build_service(msgspec.structs.replace(config, scheduler=limited), random_weights=options.random_weights)
    streams = [looped(clips, np.random.default_rng(index), options.seconds) for index in range(n)]
    before_s, started = _cpu_s(), time.perf_counter()
    transcripts = asyncio.run(_play(service, config, streams))
    cpu_s, wall_s = _cpu_s() - before_s, time.perf_counter() - started
    played = [(stream, transcript) for stream, transcript in zip(streams, transcripts, strict=True) if transcript]
    return _figures(n, played, service, cpu_s, wall_s)


def _give_back() -> None:
    """
    Free what the measurement before has left: on a GPU an engine takes its share of the memory that is free.

    Its scheduler and workers hold each other, and torch keeps memory that nobody uses.
    """
    gc.collect()
    torch.cuda.empty_cache()  # nothing where there is no GPU


async def _play(service: Service, config: Config, streams: Sequence[Clip]) -> list[LiveTranscript | None]:
    """The transcript of each stream; None for those that were refused."""
    options = msgspec.structs.replace(config.session, language="en", words=True)
    shortest_s = min(len(stream.samples) for stream in streams) / SAMPLE_RATE
    stagger_s = min(STAGGER_S, MOST_STAGGERED * shortest_s / len(streams))

    async def play_one(index: int, samples: NDArray[np.float32]) -> LiveTranscript | None:
        await asyncio.sleep(index * stagger_s)
        try:
            opened = service.scheduler.open(options)
        except OverloadError:
            return None
        return await transcribe_live(opened, samples, realtime=True)

    async with running(service.scheduler):
        return await asyncio.gather(*(play_one(index, stream.samples) for index, stream in enumerate(streams)))


def looped(clips: Sequence[Clip], order: np.random.Generator, seconds: float) -> Clip:
    """
    Join clips in random order with gaps of silence: each clip once before any clip comes again.

    Args:
        clips: At least one.
        order: Draws the order.
        seconds: The least length of the result.
    """
    said: list[Clip] = []
    gap = np.zeros(int(GAP_S * SAMPLE_RATE), np.float32)
    while True:
        for index in order.permutation(len(clips)):
            said.append(clips[index])
            if sum(len(clip.samples) + len(gap) for clip in said) >= seconds * SAMPLE_RATE:
                samples = np.concatenate([part for clip in said for part in (clip.samples, gap)])
                return Clip(samples, " ".join(clip.text for clip in said))


def _figures(
    n: int, played: Sequence[tuple[Clip, LiveTranscript]], service: Service, cpu_s: float, wall_s: float
) -> StreamsFigures:
    transcripts = [transcript for _, transcript in played]
    audio_s = sum(transcript.duration_s for transcript in transcripts)
    commit = percentiles([x for transcript in transcripts for x in transcript.commit_s])
    return StreamsFigures(
        streams=n,
        refused=n - len(played),
        audio_s=round(audio_s, 1),
        wall_s=round(wall_s, 1),
        words=sum(len(transcript.commit_s) for transcript in transcripts),
        word_error_rate=_word_error_rate(played),
        commit_latency_s=commit,
        first_partial_latency_s=percentiles([x for transcript in transcripts for x in transcript.first_sight_s]),
        decoder_token_ms=percentiles(service.engine_metrics.recent_token_ms()),
        row_cost_ms=round(service.scheduler.statistics().row_cost_s * 1e3, 2),
        cpu_s_per_audio_s=round(cpu_s / audio_s, 4) if audio_s else None,
        peak_rss_mb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        within_bound=commit is not None and commit.p95 <= COMMIT_BOUND_S,
    )


def _word_error_rate(played: Sequence[tuple[Clip, LiveTranscript]]) -> float | None:
    """Of all streams, pooled; None where the extra `eval` is not installed, or there are no words to compare with."""
    try:
        scorer = word_scorer()
    except ConfigError:
        return None
    scores = [scorer("en", stream.text, transcript.text) for stream, transcript in played]
    n_words = sum(score.words for score in scores)
    return round(sum(score.errors for score in scores) / n_words, 4) if n_words else None


def _cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def _line(figures: StreamsFigures) -> str:
    nothing = Percentiles(p50=float("nan"), p95=float("nan"))
    commit = figures.commit_latency_s or nothing
    first = figures.first_partial_latency_s or nothing
    token = figures.decoder_token_ms or nothing
    cpu, wer = figures.cpu_s_per_audio_s, figures.word_error_rate
    cells = (
        f"{figures.streams:>7}",
        f"{commit.p50:>10.2f}",
        f"{commit.p95:>6.2f}",
        f"{first.p50:>9.2f}",
        f"{token.p95:>12.1f}",
        f"{'-' if cpu is None else f'{cpu:.3f}':>9}",
        f"{'-' if wer is None else f'{100 * wer:.2f}':>6}",
        f"{figures.refused:>7}",
        f"{'yes' if figures.within_bound else 'no':>3}",
    )
    return " ".join(cells)
