"""`streamer eval`: accuracy and delay over a manifest of recordings, each played as a live stream."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import msgspec
import numpy as np

from streamer.audio import read_audio
from streamer.config import Config
from streamer.errors import ConfigError
from streamer.parts import Parts, build
from streamer.recital import Recital, listen
from streamer.transcribe import running


class ManifestRow(msgspec.Struct, frozen=True, kw_only=True):
    """One recording; other fields of a row are ignored."""

    id: str
    file: str
    """Relative to the manifest, or absolute."""
    text: str = ""
    """What is said in it; empty for recordings without speech."""
    language: str = ""
    kind: str = ""


@dataclass(frozen=True, slots=True)
class Scored:
    """A recording, what was heard, and the errors."""

    row: ManifestRow
    recital: Recital
    reference: str
    """Normalised."""
    hypothesis: str
    """Normalised."""
    errors: int
    words: int


def run(
    config: Config,
    manifest: Path,
    pace: str,
    json_out: Path | None,
    kinds: Sequence[str],
    languages: Sequence[str],
) -> int:
    """
    Evaluate and print a table; 0 when every recording was transcribed.

    Args:
        config: Model and session.
        manifest: JSON lines of `ManifestRow`.
        pace: `realtime`, one after the other; or `fast`, several at once, without meaningful latencies.
        json_out: Where to write the figures.
        kinds: Only these kinds; empty for all.
        languages: Only these languages; empty for all that the model knows.

    Raises:
        ConfigError: The manifest is not one, or nothing in it is to be evaluated, or the extra `eval` is missing.
    """
    score = _scorer()
    rows = _chosen(read_manifest(manifest), kinds, languages)
    if not rows:
        raise ConfigError(f"{manifest}: no recording of the kinds and languages asked for")
    parts = build(config)
    known = [row for row in rows if not row.language or row.language in parts.tokenizer.languages]
    if len(known) < len(rows):
        click.echo(
            f"left out: {len(rows) - len(known)} recordings in languages {config.model.name} does not know", err=True
        )
    if not known:
        raise ConfigError(f"{manifest}: no recording in a language that {config.model.name} knows")
    started = time.perf_counter()
    recitals = asyncio.run(_play_all(parts, config, known, manifest.parent, realtime=pace == "realtime"))
    elapsed_s = time.perf_counter() - started
    scored = [score(row, recital) for row, recital in zip(known, recitals, strict=True)]
    report = _report(config.model.name, scored, parts, elapsed_s)
    if json_out:
        json_out.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    click.echo(_table(report, scored))
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


def _chosen(rows: Sequence[ManifestRow], kinds: Sequence[str], languages: Sequence[str]) -> list[ManifestRow]:
    return [row for row in rows if (not kinds or row.kind in kinds) and (not languages or row.language in languages)]


async def _play_all(
    parts: Parts, config: Config, rows: Sequence[ManifestRow], folder: Path, *, realtime: bool
) -> list[Recital]:
    """One at a time in real time, so that latencies are those of a lone stream; else a batch at a time."""
    places = asyncio.Semaphore(1 if realtime else min(16, parts.scheduler.capacity))

    async def play_one(row: ManifestRow) -> Recital:
        async with places:
            samples = await asyncio.to_thread(read_audio, folder / row.file)
            options = msgspec.structs.replace(config.session, language=row.language or "auto", words=True)
            return await listen(parts.scheduler.open(options), samples, realtime=realtime)

    async with running(parts.scheduler):
        return await asyncio.gather(*map(play_one, rows))


def _scorer() -> Callable[[ManifestRow, Recital], Scored]:
    """Word error rate under Whisper's normalisers; its libraries are an extra."""
    try:
        import jiwer
        from whisper_normalizer.basic import BasicTextNormalizer
        from whisper_normalizer.english import EnglishTextNormalizer
    except ImportError:
        raise ConfigError("eval needs its libraries: pip install 'whisper-streamer[eval]'") from None
    english, basic = EnglishTextNormalizer(), BasicTextNormalizer()

    def score(row: ManifestRow, recital: Recital) -> Scored:
        normalise = english if row.language == "en" else basic
        reference, hypothesis = normalise(row.text), normalise(recital.text)
        if not reference:
            return Scored(row, recital, "", hypothesis, 0, 0)
        counted = jiwer.process_words(reference, hypothesis)
        errors = counted.substitutions + counted.deletions + counted.insertions
        return Scored(row, recital, reference, hypothesis, errors, len(reference.split()))

    return score


def _report(model: str, scored: Sequence[Scored], parts: Parts, elapsed_s: float) -> dict[str, Any]:
    spoken = [s for s in scored if s.words]
    words = sum(s.words for s in spoken)
    n_committed = sum(len(s.recital.commit_s) for s in scored)
    duration_s = sum(s.recital.duration_s for s in scored)
    return {
        "model": model,
        "files": [
            {
                "id": s.row.id,
                "kind": s.row.kind,
                "language": s.row.language,
                "wer": round(s.errors / s.words, 4) if s.words else None,
                "errors": s.errors,
                "words": s.words,
                "reference": s.row.text,
                "text": s.recital.text,
            }
            for s in scored
        ],
        "wer": round(sum(s.errors for s in spoken) / words, 5) if words else None,
        "words": words,
        "commit_latency_s": percentiles([x for s in scored for x in s.recital.commit_s]),
        "first_partial_latency_s": percentiles([x for s in scored for x in s.recital.first_sight_s]),
        "partial_churn": round(sum(s.recital.n_rewritten for s in scored) / n_committed, 3) if n_committed else None,
        "rtf": round(elapsed_s / duration_s, 3),
        "decoder_token_ms": percentiles(parts.engine_metrics.recent_token_ms()),
        "hallucinated_words_nonspeech": sum(len(_plain_words(s.recital.text)) for s in scored if not s.words),
    }


def percentiles(values: Sequence[float]) -> dict[str, float] | None:
    """P50 and P95, or None of nothing."""
    if not values:
        return None
    p50, p95 = np.percentile(np.asarray(values), [50, 95])
    return {"p50": round(float(p50), 3), "p95": round(float(p95), 3)}


def _plain_words(text: str) -> list[str]:
    return re.findall(r"\w+", text)


def _table(report: dict[str, Any], scored: Sequence[Scored]) -> str:
    lines = [f"{'kind':<12}{'files':>7}{'words':>8}{'errors':>8}{'wer %':>8}"]
    for kind in sorted({(s.row.kind, s.row.language) for s in scored}):
        group = [s for s in scored if (s.row.kind, s.row.language) == kind]
        words, errors = sum(s.words for s in group), sum(s.errors for s in group)
        rate = f"{100 * errors / words:.2f}" if words else "-"
        name = " ".join(part for part in kind if part) or "all"
        lines.append(f"{name:<12}{len(group):>7}{words:>8}{errors:>8}{rate:>8}")
    if report["wer"] is not None:
        errors = sum(s.errors for s in scored)
        lines.append(f"{'all':<12}{len(scored):>7}{report['words']:>8}{errors:>8}{100 * report['wer']:>8.2f}")
    measured = [name for name in ("first_partial_latency_s", "commit_latency_s", "decoder_token_ms") if report[name]]
    lines += [f"{name:<26} p50 {report[name]['p50']:.3f}  p95 {report[name]['p95']:.3f}" for name in measured]
    lines.append(f"{'partial_churn':<26} {report['partial_churn']}   rtf {report['rtf']}")
    lines.append(f"{'words said on non-speech':<26} {report['hallucinated_words_nonspeech']}")
    return "\n".join(lines)
