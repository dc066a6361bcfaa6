"""
Whether a word's confidence is what it says: of words with confidence 0.8, are 80 % right?

    python benchmarks/confidence.py MANIFEST [--model tiny.en] [--word-times FILE]

Each recording is decoded once, as the live path decodes a window. A word is right where it is aligned with the same
word of the reference, both normalised. The table's last lines: the expected calibration error (mean distance of
confidence and rate over the bins, by words) and how well confidence tells right from wrong (area under the curve:
0.5 is chance). With word times, how far off the starts of words are.
"""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path

import jiwer
import numpy as np
import torch
from prometheus_client import CollectorRegistry

from streamer import build
from streamer.audio.files import read_audio
from streamer.audio.mel import MelSpectrogram
from streamer.audio.pcm import SAMPLE_RATE
from streamer.config import ModelConfig
from streamer.engine.engine import WhisperEngine
from streamer.engine.options import EngineOptions
from streamer.evaluation.evaluate import read_word_times
from streamer.evaluation.manifest import read_manifest
from streamer.evaluation.percentiles import percentile
from streamer.evaluation.scoring import Normaliser, text_normaliser
from streamer.evaluation.word_timing import word_start_errors
from streamer.protocol.events import Word
from streamer.session.words import SpokenWord, spoken_words
from streamer.step import StepRequest
from streamer.telemetry.metrics import EngineMetrics

EDGES = (0.0, 0.3, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 1.0)
BATCH = 8


def main() -> None:
    """Print one markdown table."""
    arguments = argparse.ArgumentParser()
    arguments.add_argument("manifest", type=Path)
    arguments.add_argument("--model", default="tiny.en")
    arguments.add_argument("--word-times", type=Path)
    args = arguments.parse_args()
    torch.set_num_threads(1)
    rows = [r for r in read_manifest(args.manifest) if r.language == "en" and r.kind in ("short", "noisy")]
    heard = _hear(args.model, [args.manifest.parent / row.file for row in rows])
    normalise = text_normaliser()("en")
    judged = [pair for row, words in zip(rows, heard, strict=True) for pair in _judge(row.text, words, normalise)]
    confidence, right = np.array([c for c, _ in judged]), np.array([r for _, r in judged], float)
    print(f"{args.model}, {len(rows)} recordings, {len(judged)} words, {100 * right.mean():.1f} % right\n")
    print("| confidence | words | mean confidence | right |")
    print("|---|---:|---:|---:|")
    error = 0.0
    for low, high in itertools.pairwise(EDGES):
        inside = (confidence >= low) & ((confidence < high) | (high == 1.0))
        if inside.any():
            mean, rate = confidence[inside].mean(), right[inside].mean()
            error += inside.mean() * abs(mean - rate)
            print(f"| {low} to {high} | {inside.sum()} | {mean:.3f} | {rate:.3f} |")
    print(f"\nexpected calibration error {error:.3f}, area under the curve {_area(confidence, right):.3f}")
    if args.word_times:
        times = read_word_times(args.word_times)
        late = [
            e
            for row, words in zip(rows, heard, strict=True)
            for e in word_start_errors(times.get(row.id, ()), [_word(w) for w in words], normalise)
        ]
        far = np.abs(late)
        print(
            f"word starts: {len(far)} words, median error {np.median(far):.3f} s, 95 % within "
            f"{percentile(far, 95):.3f} s, median lateness {np.median(late):+.3f} s"
        )


def _hear(model: str, paths: list[Path]) -> list[list[SpokenWord]]:
    config = ModelConfig(name=model)
    device = build.choose_device(config)
    network, tokenizer = build.load_model(model, build.choose_dtype(config, device), device)
    options = EngineOptions(max_batch=BATCH, max_window_s=30.0)
    engine = WhisperEngine(network, tokenizer, options, EngineMetrics(CollectorRegistry()))
    spectrogram = MelSpectrogram(network.dims.n_mels)
    mels = [spectrogram.whole(torch.from_numpy(read_audio(path)[: 30 * SAMPLE_RATE].copy())) for path in paths]
    heard: dict[int, list[SpokenWord]] = {}
    by_length = sorted(range(len(mels)), key=lambda i: mels[i].shape[1])
    for at in range(0, len(mels), BATCH):
        batch = by_length[at : at + BATCH]
        results = engine.step([StepRequest(session=f"{i}", log_mel=mels[i], language="en") for i in batch])
        for i, result in zip(batch, results, strict=True):
            heard[i] = spoken_words(result, tokenizer, 0.0, lambda _start, end: end)
    return [heard[i] for i in range(len(mels))]


def _judge(said: str, words: list[SpokenWord], normalise: Normaliser) -> list[tuple[float, bool]]:
    """Confidence of each word that leaves something after normalising, and whether it is right."""
    pieces = [(piece, i) for i, word in enumerate(words) for piece in normalise(word.text).split()]
    if not pieces:
        return []
    aligned = jiwer.process_words(normalise(said), " ".join(piece for piece, _ in pieces)).alignments[0]
    right = {n for c in aligned if c.type == "equal" for n in range(c.hyp_start_idx, c.hyp_end_idx)}
    wrong_words = {i for n, (_, i) in enumerate(pieces) if n not in right}
    return [(words[i].confidence, i not in wrong_words) for i in sorted({i for _, i in pieces})]


def _word(word: SpokenWord) -> Word:
    return Word(text=word.text, start_s=word.start_s, end_s=word.end_s, confidence=word.confidence)


def _area(confidence: np.ndarray, right: np.ndarray) -> float:
    """The chance that a right word has more confidence than a wrong one."""
    good, bad = confidence[right == 1], confidence[right == 0]
    if not len(good) or not len(bad):
        return float("nan")
    return float((good[:, None] > bad).mean() + 0.5 * (good[:, None] == bad).mean())


if __name__ == "__main__":
    main()
