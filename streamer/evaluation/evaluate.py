"""`streamer eval`: accuracy and delay over a manifest of recordings, each played as a live stream."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

import click
import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry

from streamer import weights
from streamer.audio.files import read_audio
from streamer.audio.mel import SAMPLE_RATE
from streamer.build import Engines, build_engines, build_scheduler, window_options
from streamer.config import Config
from streamer.errors import ConfigError
from streamer.evaluation.manifest import ManifestRow, read_manifest
from streamer.evaluation.one_shot import OneShot
from streamer.evaluation.playback import LiveTranscript, transcribe_live
from streamer.evaluation.plot import DelayPoint, delay_curve
from streamer.evaluation.report import MIN_PAUSE_S, Played, difference_lines, report, table
from streamer.evaluation.scoring import text_normaliser, word_scorer
from streamer.evaluation.simulation import Playback, SimulatedPace, perform, simulate
from streamer.evaluation.word_timing import TimedWord, utterance_errors, utterances, word_start_errors
from streamer.protocol.options import Delay, SessionOptions
from streamer.scheduling.scheduler import running
from streamer.session.session import Session
from streamer.telemetry.metrics import EngineMetrics

Pace = Literal["realtime", "fast", "simulated"]
PACES: tuple[Pace, ...] = ("realtime", "fast", "simulated")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationOptions:
    """What is played, how, and against what."""

    pace: Pace = "realtime"
    """`realtime`: one after the other; `fast`: several at once, without meaningful latencies; `simulated`: by stream
    time, the same every time, with latencies as on a device that is never busy."""
    step_s: float = 0.06
    """Of a simulated device, for one step."""
    one_shot: bool = False
    """Decode each recording as a whole too, and compare."""
    differences: bool = False
    """Print every word heard otherwise than said."""
    word_times: Path | None = None
    """JSON: id -> words with their times, as `TimedWord`."""
    plot: Path | None = None
    """Evaluate all `delay` settings, and draw delay against accuracy into this SVG file."""
    kinds: tuple[str, ...] = ()
    """Only these kinds; empty for all."""
    languages: tuple[str, ...] = ()
    """Only these languages; empty for all that the model knows."""
    lead_ins_s: tuple[float, ...] = ()
    """Play each recording behind each of these lengths of silence: where frames fall moves a text by chance, and an
    error rate of several alignments less."""


def run(config: Config, manifest: Path, options: EvaluationOptions, json_out: Path | None) -> int:
    """
    Evaluate and print a table; 0 when every recording was transcribed.

    Args:
        config: Model and session.
        manifest: JSON lines of `ManifestRow`.
        options: See `EvaluationOptions`.
        json_out: Where to write the figures.

    Raises:
        ConfigError: The manifest is not one, or nothing in it is to be evaluated, or the extra `eval` is missing.
    """
    judge = Judge(read_word_times(options.word_times) if options.word_times else {})
    rows = _chosen(read_manifest(manifest), options)
    if not rows:
        raise ConfigError(f"{manifest}: no recording of the kinds and languages asked for")
    decoders = build_engines(config, CollectorRegistry())
    known = _known(rows, decoders, config.model.name)
    if not known:
        raise ConfigError(f"{manifest}: no recording in a language that {config.model.name} knows")
    evaluation = Evaluation(config, decoders, known, manifest.parent)
    references = evaluation.one_shot() if options.one_shot else None

    def measure(delay: Delay) -> tuple[dict[str, Any], list[Played]]:
        started = time.perf_counter()
        transcripts = evaluation.play(options, delay)
        elapsed_s = time.perf_counter() - started
        played = judge.played(known, transcripts, references)
        return report(config.model.name, played, decoders.metrics.recent_token_ms(), elapsed_s), played

    figures, played = measure(config.session.delay)
    if options.plot:
        delays = {d: figures if d == config.session.delay else measure(d)[0] for d in get_args(Delay)}
        figures["delays"] = {d: _figures_of_delay(f) for d, f in delays.items()}
        options.plot.write_text(_plot(config.model.name, delays), encoding="utf-8")
    if json_out:
        json_out.write_text(json.dumps(figures, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    if options.differences:
        click.echo("\n".join([*difference_lines(played), ""]))
    click.echo(table(figures))
    return 0


class Judge:
    """
    What was heard against what is known of each recording.

    Args:
        word_times: Words with their times, by the id of a recording.

    Raises:
        ConfigError: The extra `eval` is not installed.
    """

    def __init__(self, word_times: Mapping[str, Sequence[TimedWord]]) -> None:
        self._score, self._normaliser, self._word_times = word_scorer(), text_normaliser(), word_times

    def played(
        self, rows: Sequence[ManifestRow], transcripts: Sequence[LiveTranscript], one_shot: Sequence[str] | None
    ) -> list[Played]:
        """Each recording with its errors; `one_shot` are the texts of whole decoding."""
        wholes: Sequence[str | None] = one_shot or [None] * len(rows)
        return [self._played(*each) for each in zip(rows, transcripts, wholes, strict=True)]

    def _played(self, row: ManifestRow, transcript: LiveTranscript, whole: str | None) -> Played:
        words = [word for turn in transcript.turns for word in turn.words or ()]
        spoken = utterances(row.segments, MIN_PAUSE_S, row.lead_in_s)
        timed = self._word_times.get(row.id, ())
        return Played(
            id=row.id,
            kind=row.kind,
            language=row.language,
            text=row.text,
            transcript=transcript,
            score=self._score(row.language, row.text, transcript.text),
            one_shot=None if whole is None else self._score(row.language, row.text, whole),
            one_shot_text=whole,
            word_errors_s=word_start_errors(timed, words, self._normaliser(row.language), row.lead_in_s),
            utterance_errors_s=utterance_errors(spoken, transcript.turns),
        )


def read_word_times(path: Path) -> dict[str, list[TimedWord]]:
    """
    Words with their times, by the id of their recording.

    Raises:
        ConfigError: The file is not such a table.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, list[TimedWord]])
    except msgspec.DecodeError as error:
        raise ConfigError(f"{path}: {error}; expected id -> list of objects with word, start_s and end_s") from None


def _figures_of_delay(figures: Mapping[str, Any]) -> dict[str, Any]:
    names = ("wer", "wer_interval", "commit_latency_s", "first_partial_latency_s", "partial_churn")
    return {name: figures[name] for name in names}


def _plot(model: str, delays: Mapping[Delay, Mapping[str, Any]]) -> str:
    points = [
        DelayPoint(
            name=delay,
            commit_p50_s=figures["commit_latency_s"]["p50"],
            commit_p95_s=figures["commit_latency_s"]["p95"],
            rate=figures["wer"],
            low=(figures["wer_interval"] or (figures["wer"], 0.0))[0],
            high=(figures["wer_interval"] or (0.0, figures["wer"]))[1],
        )
        for delay, figures in delays.items()
        if figures["wer"] is not None and figures["commit_latency_s"]
    ]
    if not points:
        raise ConfigError("--plot: nothing was said in these recordings")
    whole = next(iter(delays.values())).get("one_shot")
    return delay_curve(f"{model}: delay against accuracy", points, whole["wer"] if whole else None)


def _chosen(rows: Sequence[ManifestRow], options: EvaluationOptions) -> list[ManifestRow]:
    kinds, languages = options.kinds, options.languages
    rows = [row for row in rows if (not kinds or row.kind in kinds) and (not languages or row.language in languages)]
    if not options.lead_ins_s:
        return rows
    return [msgspec.structs.replace(row, lead_in_s=lead_in_s) for row in rows for lead_in_s in options.lead_ins_s]


def _with_lead_in(samples: NDArray[np.float32], lead_in_s: float) -> NDArray[np.float32]:
    return np.concatenate([np.zeros(round(lead_in_s * SAMPLE_RATE), np.float32), samples])


def _known(rows: Sequence[ManifestRow], decoders: Engines, model: str) -> list[ManifestRow]:
    known = [row for row in rows if not row.language or row.language in decoders.tokenizer.languages]
    if len(known) < len(rows):
        click.echo(f"left out: {len(rows) - len(known)} recordings in languages {model} does not know", err=True)
    return known


class Evaluation:
    """
    The recordings of one evaluation, and the ways to play them.

    Args:
        config: Model and session.
        decoders: Built from it.
        rows: What is played.
        folder: What their files are relative to.
    """

    def __init__(self, config: Config, decoders: Engines, rows: Sequence[ManifestRow], folder: Path) -> None:
        self._config, self._decoders, self._rows = config, decoders, rows
        self._window = window_options(config, decoders.model)
        self._samples = [_with_lead_in(read_audio(folder / row.file), row.lead_in_s) for row in rows]

    def play(self, options: EvaluationOptions, delay: Delay) -> list[LiveTranscript]:
        """What is heard of each recording."""
        if options.pace == "simulated":
            return self._simulated(options.step_s, delay)
        return asyncio.run(self._live(delay, realtime=options.pace == "realtime"))

    async def _live(self, delay: Delay, *, realtime: bool) -> list[LiveTranscript]:
        """One at a time in real time, so that latencies are those of a lone stream; else a batch at a time."""
        # a scheduler's metrics are registered once: each has its own registry
        scheduler = build_scheduler(self._config, self._decoders, CollectorRegistry()).scheduler
        places = asyncio.Semaphore(1 if realtime else min(16, scheduler.capacity))

        async def play_one(i: int) -> LiveTranscript:
            async with places:
                return await transcribe_live(
                    scheduler.open(self._options(i, delay)), self._samples[i], realtime=realtime
                )

        async with running(scheduler):
            return await asyncio.gather(*map(play_one, range(len(self._rows))))

    def _simulated(self, step_s: float, delay: Delay) -> list[LiveTranscript]:
        """By stream time alone, a batch of recordings on each worker."""
        pace = SimulatedPace(interval_s=self._config.scheduler.step_interval_ms / 1e3, step_s=step_s)
        n_rows = self._decoders.options.max_batch

        def play_share(worker: int, share: Sequence[int]) -> list[LiveTranscript]:
            openings = [lambda i=i: self._playback(i, pace, delay) for i in share]
            return simulate(openings, self._decoders.engines[worker], n_rows)

        return self._on_workers(play_share)

    def one_shot(self) -> list[str]:
        """Each recording as a whole, from the user's cache where it was done before."""
        config, decoders = self._config, self._decoders
        source = weights.resolve(config.model.name)
        identity = f"{source.name} {weights.sha256_of(*source.weights)} {decoders.model.dtype}"

        def transcribe_share(_worker: int, share: Sequence[int]) -> list[str]:
            whole = OneShot(
                decoders.model,
                decoders.tokenizer,
                decoders.front_end,
                EngineMetrics(CollectorRegistry()),
                folder=weights.default_store().parent / "one-shot",
                weights=identity,
            )
            return [whole.text(self._samples[i], self._rows[i].language) for i in share]

        return self._on_workers(transcribe_share)

    def _on_workers(self, work: Callable[[int, Sequence[int]], list[Result]]) -> list[Result]:
        """Work on a share of the recordings on a thread of each worker, the longest first; results in their order."""
        n = len(self._decoders.engines)
        longest_first = sorted(range(len(self._rows)), key=lambda i: -len(self._samples[i]))
        shares = [longest_first[worker::n] for worker in range(n)]
        with ThreadPoolExecutor(n, initializer=torch.set_num_threads, initargs=(1,)) as threads:
            results = list(threads.map(work, range(n), shares))
        found = {
            i: result
            for share, part in zip(shares, results, strict=True)
            for i, result in zip(share, part, strict=True)
        }
        return [found[i] for i in range(len(self._rows))]

    def _playback(self, i: int, pace: SimulatedPace, delay: Delay) -> Playback:
        decoders = self._decoders
        session = Session(
            f"{i}",
            self._options(i, delay),
            self._window,
            decoders.tokenizer,
            decoders.model.dims.n_mels,
        )
        return perform(session, decoders.front_end, self._samples[i], pace)

    def _options(self, i: int, delay: Delay) -> SessionOptions:
        language = self._rows[i].language or "auto"
        return msgspec.structs.replace(self._config.session, language=language, delay=delay, words=True)
