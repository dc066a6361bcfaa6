"""
Word errors of degraded audio: recordings clipped, offset, faint, resampled or with dropouts, on a simulated clock.

    python -m benchmarks.degraded MANIFEST [--model tiny.en] [--kind short] [--limit N]

A degradation changes samples and nothing else. "words beyond" counts the words of transcripts that are longer than
their references: repetition loops show there. A crash ends the benchmark.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import numpy as np
import soxr
from prometheus_client import CollectorRegistry

from benchmarks.arguments import program, whole
from benchmarks.common import argument_parser, read_recordings, some
from streamer.audio.pcm import SAMPLE_RATE, Samples
from streamer.build.engines import Engines, build_engines
from streamer.build.options import window_options
from streamer.config import Config, ModelConfig
from streamer.evaluation.latency import LiveTranscript
from streamer.evaluation.manifest import read_manifest
from streamer.evaluation.percentiles import percentile
from streamer.evaluation.scoring import word_scorer
from streamer.evaluation.simulation import Playback, SimulatedPace, perform, simulate
from streamer.session.session import Session
from streamer.session.spec import SessionSpec


def silence_around(x: Samples) -> Samples:
    """Five seconds of zeros before and after."""
    return np.pad(x, 5 * SAMPLE_RATE)


def clipped(x: Samples) -> Samples:
    """Amplify by 12 dB, and clip at the level of the loudest sample."""
    top = float(np.abs(x).max())
    return np.clip(4 * x, -top, top)


def offset(x: Samples) -> Samples:
    """Add a tenth of full scale to every sample."""
    return (x + 0.1).astype(np.float32)


def quiet(x: Samples) -> Samples:
    """Attenuate by 20 dB, then round to 16 bits."""
    return (np.round(0.1 * x * 32767) / 32767).astype(np.float32)


def telephone(x: Samples) -> Samples:
    """8 kHz, 8 bits mu-law."""
    narrow = np.clip(soxr.resample(x, SAMPLE_RATE, 8000), -1, 1)
    coded = np.round(np.sign(narrow) * np.log1p(255 * np.abs(narrow)) / np.log(256) * 127) / 127
    decoded = np.sign(coded) * np.expm1(np.abs(coded) * np.log(256)) / 255
    return np.asarray(soxr.resample(decoded, 8000, SAMPLE_RATE), np.float32)


def through(rate: int) -> Callable[[Samples], Samples]:
    """Stereo at another sample rate with one channel fainter, mixed down and resampled to 16 kHz."""

    def degrade(x: Samples) -> Samples:
        other = soxr.resample(np.stack([x, 0.5 * x], axis=1), SAMPLE_RATE, rate)
        return np.asarray(soxr.resample(other.mean(axis=1), rate, SAMPLE_RATE), np.float32)

    return degrade


def with_dropouts(x: Samples) -> Samples:
    """Replace 200 ms of every two seconds by zeros."""
    y = x.copy()
    for at in range(SAMPLE_RATE, len(y), 2 * SAMPLE_RATE):
        y[at : at + SAMPLE_RATE // 5] = 0
    return y


DEGRADATIONS: dict[str, Callable[[Samples], Samples]] = {
    "none": lambda x: x,
    "digital silence of 5 s before and after": silence_around,
    "clipped, 12 dB": clipped,
    "DC offset of 0.1": offset,
    "20 dB too quiet": quiet,
    "telephone, 8 kHz mu-law": telephone,
    "44.1 kHz stereo": through(44_100),
    "48 kHz stereo": through(48_000),
    "dropouts of 200 ms every 2 s": with_dropouts,
}


def main() -> None:
    """Print one markdown table."""
    arguments = argument_parser(__doc__)
    arguments.add_argument("--kind", default="short")
    arguments.add_argument("--limit", type=whole(), default=1000, help="recordings at most")
    args = arguments.parse_args()
    config = Config(model=ModelConfig(name=args.model, threads=1))
    engines, score = build_engines(config, CollectorRegistry()), word_scorer()
    found = [r for r in read_manifest(args.manifest) if r.language == "en" and r.kind == args.kind]
    rows = some(found, args.manifest, f"of English with kind {args.kind}")[: args.limit]
    recordings = read_recordings(args.manifest, rows)
    print(f"{args.model}, {engines.model.dtype}, {len(rows)} recordings\n")
    print("| sound | wer % | words beyond | commit P95 |")
    print("|---|---:|---:|---:|", flush=True)
    for name, degrade in DEGRADATIONS.items():
        transcripts = play(config, engines, [degrade(x) for x in recordings])
        scores = [score("en", row.text, transcript.text) for row, transcript in zip(rows, transcripts, strict=True)]
        errors, words = sum(s.errors for s in scores), sum(s.words for s in scores)
        beyond = sum(max(0, len(s.hypothesis.split()) - s.words) for s in scores)
        commits = [x for transcript in transcripts for x in transcript.commit_s] or [0.0]
        print(f"| {name} | {100 * errors / words:.2f} | {beyond} | {percentile(commits, 95):.2f} s |", flush=True)


def play(config: Config, engines: Engines, recordings: list[Samples]) -> list[LiveTranscript]:
    """
    Play each recording as a live session on a simulated clock.

    Args:
        config: Model, and options of the sessions; their language is English.
        engines: Built from `config`.
        recordings: (n,) each, mono at 16 kHz.
    """

    def opening(i: int) -> Callable[[], Playback]:
        def begin() -> Playback:
            options = msgspec.structs.replace(config.session, language="en")
            window = window_options(config, engines.facts)
            spec = SessionSpec(name=f"{i}", options=options, window=window, model=engines.facts)
            return perform(Session(spec), engines.front_end, recordings[i], SimulatedPace())

        return begin

    openings = [opening(i) for i in range(len(recordings))]
    return simulate(openings, engines.engines[0], engines.options.max_batch)


if __name__ == "__main__":
    program(main)
