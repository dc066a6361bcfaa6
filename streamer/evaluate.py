"""`streamer eval`: accuracy and delay over a manifest of recordings, each played as a live stream."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

import click
import msgspec
import torch
from prometheus_client import CollectorRegistry

from streamer import weights
from streamer.audio_file import read_audio
from streamer.config import Config
from streamer.errors import ConfigError
from streamer.metrics import EngineMetrics
from streamer.one_shot import OneShot
from streamer.options import SessionOptions
from streamer.parts import Decoders, build_decoders, schedule, window_options
from streamer.recital import Recital, listen
from streamer.report import Played, difference_lines, report, table
from streamer.scoring import word_scorer
from streamer.session import Session
from streamer.simulation import Performance, SimulatedPace, perform, simulate
from streamer.transcribe import running

Pace = Literal["realtime", "fast", "simulated"]
PACES: tuple[Pace, ...] = ("realtime", "fast", "simulated")
Result = TypeVar("Result")


class ManifestRow(msgspec.Struct, frozen=True, kw_only=True):
    """One recording; other fields of a row are ignored."""

    id: str
    file: str
    """Relative to the manifest, or absolute."""
    text: str = ""
    """What is said in it; empty for recordings without speech."""
    language: str = ""
    kind: str = ""


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
    kinds: tuple[str, ...] = ()
    """Only these kinds; empty for all."""
    languages: tuple[str, ...] = ()
    """Only these languages; empty for all that the model knows."""


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
    score = word_scorer()
    rows = _chosen(read_manifest(manifest), options)
    if not rows:
        raise ConfigError(f"{manifest}: no recording of the kinds and languages asked for")
    registry = CollectorRegistry()
    decoders = build_decoders(config, registry)
    known = _known(rows, decoders, config.model.name)
    if not known:
        raise ConfigError(f"{manifest}: no recording in a language that {config.model.name} knows")
    evaluation = Evaluation(config, decoders, registry, known, manifest.parent)
    started = time.perf_counter()
    recitals = evaluation.simulated(options.step_s) if options.pace == "simulated" else evaluation.live(options.pace)
    elapsed_s = time.perf_counter() - started
    references = evaluation.one_shot() if options.one_shot else [None] * len(known)
    played = [
        Played(
            id=row.id,
            kind=row.kind,
            language=row.language,
            text=row.text,
            recital=recital,
            score=score(row.language, row.text, recital.text),
            one_shot=None if whole is None else score(row.language, row.text, whole),
            one_shot_text=whole,
        )
        for row, recital, whole in zip(known, recitals, references, strict=True)
    ]
    figures = report(config.model.name, played, decoders.metrics.recent_token_ms(), elapsed_s)
    if json_out:
        json_out.write_text(json.dumps(figures, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    if options.differences:
        click.echo("\n".join([*difference_lines(played), ""]))
    click.echo(table(figures, played))
    return 0


def read_manifest(path: Path) -> list[ManifestRow]:
    """
    Rows of a manifest.

    Raises:
        ConfigError: A line is not a row.
    """
    rows = []
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: not UTF-8 text; expected JSON lines with id, file and text") from None
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            try:
                rows.append(msgspec.json.decode(line, type=ManifestRow))
            except msgspec.DecodeError as error:
                raise ConfigError(f"{path} line {number}: {error}; expected an object with id, file and text") from None
    return rows


def _chosen(rows: Sequence[ManifestRow], options: EvaluationOptions) -> list[ManifestRow]:
    kinds, languages = options.kinds, options.languages
    return [row for row in rows if (not kinds or row.kind in kinds) and (not languages or row.language in languages)]


def _known(rows: Sequence[ManifestRow], decoders: Decoders, model: str) -> list[ManifestRow]:
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
        registry: Of their metrics.
        rows: What is played.
        folder: What their files are relative to.
    """

    def __init__(
        self, config: Config, decoders: Decoders, registry: CollectorRegistry, rows: Sequence[ManifestRow], folder: Path
    ) -> None:
        self._config, self._decoders, self._registry, self._rows = config, decoders, registry, rows
        self._samples = [read_audio(folder / row.file) for row in rows]

    def live(self, pace: Pace) -> list[Recital]:
        """Through the scheduler, as any stream."""
        return asyncio.run(self._live(realtime=pace == "realtime"))

    async def _live(self, *, realtime: bool) -> list[Recital]:
        """One at a time in real time, so that latencies are those of a lone stream; else a batch at a time."""
        scheduler = schedule(self._config, self._decoders, self._registry).scheduler
        places = asyncio.Semaphore(1 if realtime else min(16, scheduler.capacity))

        async def play_one(i: int) -> Recital:
            async with places:
                return await listen(scheduler.open(self._options(i)), self._samples[i], realtime=realtime)

        async with running(scheduler):
            return await asyncio.gather(*map(play_one, range(len(self._rows))))

    def simulated(self, step_s: float) -> list[Recital]:
        """By stream time alone, a batch of recordings on each lane."""
        pace = SimulatedPace(interval_s=self._config.scheduler.step_interval_ms / 1e3, step_s=step_s)
        n_rows = self._decoders.options.max_batch

        def play_share(lane: int, share: Sequence[int]) -> list[Recital]:
            openings = [lambda i=i: self._performance(i, pace) for i in share]
            return simulate(openings, self._decoders.engines[lane], n_rows)

        return self._on_lanes(play_share)

    def one_shot(self) -> list[str]:
        """Each recording as a whole, from the user's cache where it was done before."""
        config, decoders = self._config, self._decoders
        source = weights.resolve(config.model.name)
        identity = f"{source.name} {weights.sha256_of(*source.weights)} {decoders.model.dtype}"

        def transcribe_share(_lane: int, share: Sequence[int]) -> list[str]:
            whole = OneShot(
                decoders.model,
                decoders.tokenizer,
                decoders.front_end,
                EngineMetrics(CollectorRegistry()),
                folder=weights.default_store().parent / "one-shot",
                weights=identity,
            )
            return [whole.text(self._samples[i], self._rows[i].language) for i in share]

        return self._on_lanes(transcribe_share)

    def _on_lanes(self, work: Callable[[int, Sequence[int]], list[Result]]) -> list[Result]:
        """Work on a share of the recordings on a thread of each lane, the longest first; results in their order."""
        n = len(self._decoders.engines)
        longest_first = sorted(range(len(self._rows)), key=lambda i: -len(self._samples[i]))
        shares = [longest_first[lane::n] for lane in range(n)]
        with ThreadPoolExecutor(n, initializer=torch.set_num_threads, initargs=(1,)) as threads:
            results = list(threads.map(work, range(n), shares))
        found = {
            i: result
            for share, part in zip(shares, results, strict=True)
            for i, result in zip(share, part, strict=True)
        }
        return [found[i] for i in range(len(self._rows))]

    def _performance(self, i: int, pace: SimulatedPace) -> Performance:
        decoders = self._decoders
        session = Session(
            f"{i}", self._options(i), window_options(self._config), decoders.tokenizer, decoders.model.dims.n_mels
        )
        return perform(session, decoders.front_end, self._samples[i], pace)

    def _options(self, i: int) -> SessionOptions:
        return msgspec.structs.replace(self._config.session, language=self._rows[i].language or "auto", words=True)
