"""`streamer eval`: accuracy and latency over a manifest of recordings, each played as a live session."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

import click
import msgspec
from prometheus_client import CollectorRegistry

from streamer.build.engines import Engines, build_engines
from streamer.config import Config
from streamer.errors import ConfigError
from streamer.evaluation.figures import Figures, to_json
from streamer.evaluation.judge import Judge, JudgedRecording
from streamer.evaluation.manifest import ManifestRow, read_manifest, read_word_times
from streamer.evaluation.play import Evaluation, EvaluationOptions
from streamer.evaluation.plot import delay_plot
from streamer.evaluation.report import report
from streamer.evaluation.table import difference_lines, table
from streamer.protocol.options import Delay


def run(config: Config, manifest: Path, options: EvaluationOptions) -> int:
    """
    Evaluate, print a table, write the files that `options` ask for, and return the exit code, 0.

    Args:
        config: Model and session.
        manifest: JSON lines of `ManifestRow`.
        options: Which recordings are played, at which pace, and what is measured and written.

    Raises:
        ConfigError: The manifest is damaged or has no recording to evaluate, or the extra `eval` is not installed.
        StreamerError: There is no model, or a recording cannot be read.
    """
    judge = Judge(read_word_times(options.word_times) if options.word_times else {})
    listed = read_manifest(manifest)
    rows = _chosen(listed, options)
    if not rows:
        raise ConfigError(f"{manifest}: {_why_none(listed)}")
    engines = build_engines(config, CollectorRegistry())
    known = _known(rows, engines, config.model.name)
    if not known:
        raise ConfigError(f"{manifest}: no recording in a language that {config.model.name} knows")
    evaluation = Evaluation(config, engines, known, manifest.parent)
    references = evaluation.one_shot() if options.one_shot else None

    def measure(delay: Delay) -> tuple[Figures, list[JudgedRecording]]:
        engines.metrics.forget_recent()
        started = time.perf_counter()
        transcripts = evaluation.play(options, delay)
        elapsed_s = time.perf_counter() - started
        judged = judge.judge(known, transcripts, references, is_revised=options.revise)
        figures = report(config.model.name, judged, engines.metrics.recent_token_ms(), elapsed_s)
        if options.revise:
            cost = round(evaluation.revision_s / evaluation.duration_s, 4)
            figures = msgspec.structs.replace(figures, revision_s_per_audio_s=cost)
        return figures, judged

    figures, judged = measure(config.session.delay)
    if options.plot:
        others = {delay: measure(delay)[0] for delay in get_args(Delay) if delay != config.session.delay}
        by_delay = {**others, config.session.delay: figures}
        delays = {delay: by_delay[delay].of_delay() for delay in get_args(Delay)}
        figures = msgspec.structs.replace(figures, delays=delays)
    _write(figures, judged, options)
    return 0


def _write(figures: Figures, judged: Sequence[JudgedRecording], options: EvaluationOptions) -> None:
    """Print the table first: a full disk must not take it along."""
    if options.differences:
        click.echo("\n".join([*difference_lines(judged), ""]))
    click.echo(table(figures))
    if options.plot:
        options.plot.write_text(delay_plot(figures), encoding="utf-8")
    if options.json_out:
        options.json_out.write_text(to_json(figures), encoding="utf-8")


def _chosen(rows: Sequence[ManifestRow], options: EvaluationOptions) -> list[ManifestRow]:
    """Rows of the kinds and languages asked for, one for each lead-in."""
    kinds, languages = options.kinds, options.languages
    rows = [row for row in rows if (not kinds or row.kind in kinds) and (not languages or row.language in languages)]
    lead_ins_s = options.lead_ins_s
    if not lead_ins_s:
        return rows
    return [msgspec.structs.replace(row, lead_in_s=lead_in_s) for row in rows for lead_in_s in lead_ins_s]


def _why_none(listed: Sequence[ManifestRow]) -> str:
    """Why no row was chosen, and what could have been."""
    if not listed:
        return "no recording; expected JSON lines with id, file and text"
    kinds, languages = ({getattr(row, name) for row in listed} for name in ("kind", "language"))
    has = f"it has the kinds {', '.join(sorted(kinds))} and the languages {', '.join(sorted(languages))}"
    return f"no recording of the kinds and languages asked for; {has}"


def _known(rows: Sequence[ManifestRow], engines: Engines, model: str) -> list[ManifestRow]:
    """Rows in languages of the tokenizer; prints how many are left out."""
    known = [row for row in rows if not row.language or row.language in engines.tokenizer.languages]
    if len(known) < len(rows):
        click.echo(f"left out: {len(rows) - len(known)} recordings in languages {model} does not know", err=True)
    return known
