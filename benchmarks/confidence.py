"""
Calibration of the confidence of words: of the words with confidence 0.8, are 80 % right?

    python -m benchmarks.confidence MANIFEST [--model tiny.en] [--word-times FILE]

Each recording is decoded once, as the live path decodes a window. A word is right where it is aligned with the same
word of the reference, both normalised. Below the table: the expected calibration error (mean distance between
confidence and rate over the bins, weighted by words), and the area under the curve (how well confidence tells right
words from wrong ones; 0.5 is chance). With word times, also the errors of the starts of words.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import jiwer
import numpy as np
import torch
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry

from benchmarks.arguments import manifest_file, program
from benchmarks.common import argument_parser, load_network, read_recordings, some
from streamer.audio.mel import MelSpectrogram
from streamer.audio.pcm import SAMPLE_RATE
from streamer.engine.engine import WhisperEngine
from streamer.engine.options import EngineOptions
from streamer.evaluation.manifest import read_manifest, read_word_times
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
    arguments = argument_parser(__doc__)
    arguments.add_argument("--word-times", type=manifest_file)
    args = arguments.parse_args()
    torch.set_num_threads(1)
    found = [r for r in read_manifest(args.manifest) if r.language == "en" and r.kind in ("short", "noisy")]
    rows = some(found, args.manifest, "of English with kind short or noisy")
    heard = _decode(args.model, read_recordings(args.manifest, rows))
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
            f"{percentile(far.tolist(), 95):.3f} s, median lateness {np.median(late):+.3f} s"
        )


def _decode(model: str, recordings: Sequence[NDArray[np.float32]]) -> list[list[SpokenWord]]:
    """The words of the first 30 s of each recording, (n,)."""
    network, tokenizer = load_network(model)
    options = EngineOptions(max_batch=BATCH, max_window_s=30.0)
    engine = WhisperEngine(network, tokenizer, options, EngineMetrics(CollectorRegistry()))
    spectrogram = MelSpectrogram(network.dims.n_mels)
    mels = [spectrogram.whole(torch.from_numpy(samples[: 30 * SAMPLE_RATE].copy())) for samples in recordings]
    heard: dict[int, list[SpokenWord]] = {}
    by_length = sorted(range(len(mels)), key=lambda i: mels[i].shape[1])
    for at in range(0, len(mels), BATCH):
        batch = by_length[at : at + BATCH]
        results = engine.step([StepRequest(session=f"{i}", log_mel=mels[i], language="en") for i in batch])
        for i, result in zip(batch, results, strict=True):
            heard[i] = spoken_words(result, tokenizer, 0.0, lambda start, end: (start, end))
    return [heard[i] for i in range(len(mels))]


def _judge(said: str, words: list[SpokenWord], normalise: Normaliser) -> list[tuple[float, bool]]:
    """The confidence of each word and whether it is right; words that normalise to nothing are left out."""
    pieces = [(piece, i) for i, word in enumerate(words) for piece in normalise(word.text).split()]
    if not pieces:
        return []
    aligned = jiwer.process_words(normalise(said), " ".join(piece for piece, _ in pieces)).alignments[0]
    right = {n for c in aligned if c.type == "equal" for n in range(c.hyp_start_idx, c.hyp_end_idx)}
    wrong_words = {i for n, (_, i) in enumerate(pieces) if n not in right}
    return [(words[i].confidence, i not in wrong_words) for i in sorted({i for _, i in pieces})]


def _word(word: SpokenWord) -> Word:
    return Word(text=word.text, start_s=word.start_s, end_s=word.end_s, confidence=word.confidence)


def _area(confidence: NDArray[np.float64], right: NDArray[np.float64]) -> float:
    """The probability that a right word has more confidence than a wrong one; NaN without words of both sorts."""
    good, bad = confidence[right == 1], confidence[right == 0]
    if not len(good) or not len(bad):
        return float("nan")
    return float((good[:, None] > bad).mean() + 0.5 * (good[:, None] == bad).mean())


if __name__ == "__main__":
    program(main)
