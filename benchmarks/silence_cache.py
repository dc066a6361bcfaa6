"""
Short windows completed by cached silence against full windows: word error rate, encoder time, run-aways.

    python -m benchmarks.silence_cache MANIFEST [--model tiny.en] [--threads N] [--out FILE]

Greedy decoding of the first 30 s of every recording, and of prefixes of it as a live window grows. "fixed" uses one mel
maximum for every window; "quantised" uses the maximum of the window, rounded up to 0.25, with a cache for each value;
"own" is the published front end. A run-away is a text that reaches its token bound or ends in a repetition loop.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from dataclasses import dataclass, replace

import jiwer
import numpy as np
import torch
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry
from whisper_normalizer.basic import BasicTextNormalizer
from whisper_normalizer.english import EnglishTextNormalizer

from benchmarks.arguments import program, results_file, whole
from benchmarks.common import argument_parser, load_network, read_recordings, some
from streamer.audio.mel import FIXED_MAXIMUM, MelSpectrogram
from streamer.audio.pcm import SAMPLE_RATE
from streamer.engine.engine import WhisperEngine
from streamer.engine.options import EngineOptions
from streamer.evaluation.manifest import ManifestRow, read_manifest
from streamer.host.cpu import physical_cores
from streamer.step import StepRequest, StepResult
from streamer.telemetry.metrics import EngineMetrics
from streamer.text.repetition import find_loop

PREFIX_STEP_S = 1.7
LONGEST_S = 30.0


@dataclass(frozen=True)
class Setting:
    """One row of the table."""

    name: str
    options: EngineOptions
    maximum: Callable[[torch.Tensor], float]


def quantised(log_mel: torch.Tensor) -> float:
    """The maximum of a window, (n_mels, n_frames), rounded up to a quarter of a decade."""
    return math.ceil(float(log_mel.max()) * 4) / 4


def settings() -> list[Setting]:
    """The reference, then both sorts of maximum at each margin, then strides of the silence keys."""
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
        self.model, self.tokenizer = load_network(model_name)
        self._made: dict[tuple[EngineOptions, float], WhisperEngine] = {}
        self.metrics = EngineMetrics(CollectorRegistry())

    def transcribe(self, setting: Setting, log_mel: torch.Tensor, language: str | None) -> StepResult:
        """
        Decode one window without anything cached of the window before.

        Args:
            setting: Engine options and mel maximum.
            log_mel: (n_mels, n_frames).
            language: A code; None to detect it.
        """
        maximum = setting.maximum(log_mel)
        if not setting.options.silence_cache:
            self.forget()  # every window has a maximum of its own: no engine is used again
        key = (setting.options, maximum)
        if key not in self._made:
            self._made[key] = self._engine(setting.options, maximum)
        return self._made[key].step([StepRequest(session="bench", log_mel=log_mel, language=language)])[0]

    def forget(self) -> None:
        """Forget all engines, and with them their caches."""
        self._made.clear()

    def _engine(self, options: EngineOptions, maximum: float) -> WhisperEngine:
        options = replace(options, max_batch=1, mel_maximum=maximum)
        return WhisperEngine(self.model, self.tokenizer, options, self.metrics)


def main() -> None:
    """Print one markdown table."""
    arguments = argument_parser(__doc__)
    arguments.add_argument("--out", type=results_file)
    arguments.add_argument("--threads", type=whole(), default=physical_cores())
    args = arguments.parse_args()
    torch.set_num_threads(args.threads)
    engines = Engines(args.model)
    spectrogram = MelSpectrogram(engines.model.dims.n_mels)
    found = [r for r in read_manifest(args.manifest) if r.text and r.language in engines.tokenizer.languages]
    rows = some(found, args.manifest, f"in a language of {args.model}")
    mels = [_log_mel(spectrogram, samples) for samples in read_recordings(args.manifest, rows)]
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


def _log_mel(spectrogram: MelSpectrogram, samples: NDArray[np.float32]) -> torch.Tensor:
    return spectrogram.whole(torch.from_numpy(samples[: int(LONGEST_S * SAMPLE_RATE)].copy()))  # (n_mels, n_frames)


def _text(engines: Engines, setting: Setting, log_mel: torch.Tensor, row: ManifestRow) -> str:
    return engines.tokenizer.decode(engines.transcribe(setting, log_mel, row.language).tokens)


def _prefixes(
    engines: Engines, setting: Setting, rows: list[ManifestRow], mels: list[torch.Tensor]
) -> tuple[list[str], int]:
    """Texts of growing prefixes of every fourth short recording, and how many of them ran away."""
    texts, run_aways = [], 0
    chosen = [(row, mel) for row, mel in zip(rows, mels, strict=True) if row.kind == "short"][::4]
    for row, log_mel in chosen:
        step = int(PREFIX_STEP_S * 100)
        for end in range(step, log_mel.shape[1], step):
            result = engines.transcribe(setting, log_mel[:, :end], row.language)
            run_aways += not result.ended or find_loop(result.tokens) is not None
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
    program(main)
