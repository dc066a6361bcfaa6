"""
Short windows completed by cached silence, against full windows: word error rate, encoder time, run-aways.

    python benchmarks/silence_cache.py MANIFEST [--model tiny.en] [--threads N] [--out FILE]

One-shot greedy decoding of every recording (its first 30 s) and of live prefixes of it, cut anywhere. "fixed" takes the
same mel maximum for every window; "quantised" the window's own, rounded up to 0.25, with one cache for each value;
"own" is the published front end. A run-away is a hypothesis that reaches its token bound or goes in circles.
"""

from __future__ import annotations

import argparse
import math
import statistics
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import jiwer
import numpy as np
import torch
from prometheus_client import CollectorRegistry
from whisper_normalizer.basic import BasicTextNormalizer
from whisper_normalizer.english import EnglishTextNormalizer

from streamer import build
from streamer.audio.files import read_audio
from streamer.audio.mel import FIXED_MAXIMUM, MelSpectrogram
from streamer.audio.pcm import SAMPLE_RATE
from streamer.config import ModelConfig
from streamer.engine.engine import WhisperEngine
from streamer.engine.options import EngineOptions
from streamer.evaluation.manifest import ManifestRow, read_manifest
from streamer.step import StepRequest, StepResult
from streamer.telemetry.metrics import EngineMetrics
from streamer.text.repetition import repetition_start

PREFIX_STEP_S = 1.7
LONGEST_S = 30.0


@dataclass(frozen=True)
class Setting:
    """One row of the table."""

    name: str
    options: EngineOptions
    maximum: Callable[[torch.Tensor], float]


def quantised(log_mel: torch.Tensor) -> float:
    """The window's own maximum, rounded up to a quarter of a decade."""
    return math.ceil(float(log_mel.max()) * 4) / 4


def settings() -> list[Setting]:
    """The reference, then both floors at each margin, then strides of the silence keys."""
    fixed, own = (lambda _: FIXED_MAXIMUM), (lambda mel: float(mel.max()))
    rows = [
        Setting("full window, own floor", EngineOptions(silence_cache=False), own),
        Setting("full window, fixed floor", EngineOptions(silence_cache=False), fixed),
    ]
    margins = (8, 16, 32, 64)
    rows += [Setting(f"cache, fixed, margin {m}", EngineOptions(margin_frames=m), fixed) for m in margins]
    rows += [Setting(f"cache, quantised, margin {m}", EngineOptions(margin_frames=m), quantised) for m in margins]
    rows += [Setting(f"cache, fixed, stride {s}", EngineOptions(silence_stride=s), fixed) for s in (1, 16)]
    return rows


class Engines:
    """One engine for each mel maximum that a setting asks for."""

    def __init__(self, model_name: str) -> None:
        config = ModelConfig(name=model_name)
        device = build.choose_device(config)
        self.model, self.tokenizer = build.load_model(model_name, build.choose_dtype(config, device), device)
        self._made: dict[tuple[EngineOptions, float], WhisperEngine] = {}
        self.metrics = EngineMetrics(CollectorRegistry())

    def transcribe(self, setting: Setting, log_mel: torch.Tensor, language: str | None) -> StepResult:
        """One window from scratch."""
        maximum = setting.maximum(log_mel)
        if not setting.options.silence_cache:
            self.forget()  # every window its own floor: nothing to keep
        key = (setting.options, maximum)
        if key not in self._made:
            self._made[key] = self._engine(setting.options, maximum)
        return self._made[key].step([StepRequest(session="bench", log_mel=log_mel, language=language)])[0]

    def forget(self) -> None:
        """Let go of all engines."""
        self._made.clear()

    def _engine(self, options: EngineOptions, maximum: float) -> WhisperEngine:
        options = replace(options, max_batch=1, mel_maximum=maximum)
        return WhisperEngine(self.model, self.tokenizer, options, self.metrics)


def main() -> None:
    """Print one markdown table."""
    arguments = argparse.ArgumentParser()
    arguments.add_argument("manifest", type=Path)
    arguments.add_argument("--model", default="tiny.en")
    arguments.add_argument("--out", type=Path)
    arguments.add_argument("--threads", type=int, default=build.physical_cores())
    args = arguments.parse_args()
    torch.set_num_threads(args.threads)
    engines = Engines(args.model)
    spectrogram = MelSpectrogram(engines.model.dims.n_mels)
    rows = [r for r in read_manifest(args.manifest) if r.text and r.language in engines.tokenizer.languages]
    mels = [_log_mel(spectrogram, args.manifest.parent / row.file) for row in rows]
    lines = [
        f"{args.model}, {engines.model.dtype}, {torch.get_num_threads()} threads, {len(rows)} recordings, greedy\n",
        "| setting | short | noisy | all | encoder ms | prefixes | run-aways | prefix text changed |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    reference: list[str] = []
    for setting in settings():
        engines.metrics = EngineMetrics(CollectorRegistry())
        engines.forget()
        texts = [_text(engines, setting, mel, row) for row, mel in zip(rows, mels, strict=True)]
        encoder_ms = statistics.median(engines.metrics.recent_encoder_ms())
        prefixes, run_aways = _prefixes(engines, setting, rows, mels)
        reference = reference or prefixes
        changed = jiwer.wer([t or "-" for t in reference], [t or "-" for t in prefixes])
        rates = [_wer(rows, texts, kind) for kind in ("short", "noisy", None)]
        cells = [
            setting.name,
            *rates,
            f"{encoder_ms:.1f}",
            str(len(prefixes)),
            str(run_aways),
            f"{100 * changed:.1f} %",
        ]
        lines.append("| " + " | ".join(cells) + " |")
        print(lines[-1], flush=True)
    if args.out:
        args.out.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _log_mel(spectrogram: MelSpectrogram, path: Path) -> torch.Tensor:
    samples = read_audio(path)[: int(LONGEST_S * SAMPLE_RATE)]
    return spectrogram.whole(torch.from_numpy(np.ascontiguousarray(samples)))


def _text(engines: Engines, setting: Setting, log_mel: torch.Tensor, row: ManifestRow) -> str:
    return engines.tokenizer.decode(engines.transcribe(setting, log_mel, row.language).tokens)


def _prefixes(
    engines: Engines, setting: Setting, rows: list[ManifestRow], mels: list[torch.Tensor]
) -> tuple[list[str], int]:
    """Texts of live prefixes of every fourth short recording, and how many ran away."""
    texts, run_aways = [], 0
    chosen = [(row, mel) for row, mel in zip(rows, mels, strict=True) if row.kind == "short"][::4]
    for row, log_mel in chosen:
        step = int(PREFIX_STEP_S * 100)
        for end in range(step, log_mel.shape[1], step):
            result = engines.transcribe(setting, log_mel[:, :end], row.language)
            run_aways += not result.ended or repetition_start(result.tokens) is not None
            texts.append(engines.tokenizer.decode(result.tokens).lower())
    return texts, run_aways


def _wer(rows: list[ManifestRow], texts: list[str], kind: str | None) -> str:
    english, basic = EnglishTextNormalizer(), BasicTextNormalizer()
    pairs = [
        ((english if row.language == "en" else basic)(row.text), (english if row.language == "en" else basic)(text))
        for row, text in zip(rows, texts, strict=True)
        if kind in (None, row.kind) and row.kind != "long"
    ]
    return f"{100 * jiwer.wer([r for r, _ in pairs], [h for _, h in pairs]):.2f}" if pairs else "-"


if __name__ == "__main__":
    main()
