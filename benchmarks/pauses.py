"""
Turns of speech with pauses: recordings with pauses of 0.3 to 1.5 s put in where the voice rests, on a simulated clock.

    python -m benchmarks.pauses MANIFEST [--model tiny.en] [--kind short] [--seed N] [--endpoint-ms N] [--list]

A pause is put into every rest of at least 0.1 s between two voiced parts; its sound is that of the rest, again and
again, so that nothing but the length changes. The sentences of a recording are those of its text as decoded at once,
without added pauses. "formatted" counts case and punctuation, over the recordings whose references have both.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence

import msgspec
import numpy as np
from prometheus_client import CollectorRegistry

from benchmarks.arguments import program, whole
from benchmarks.common import argument_parser, read_recordings, some
from benchmarks.degraded import play
from streamer.audio.frontend import FrontEnd
from streamer.audio.pcm import SAMPLE_RATE, Samples
from streamer.audio.vad import FRAME_SAMPLES
from streamer.build.engines import build_engines
from streamer.config import Config, ModelConfig
from streamer.evaluation.formatted import formatted_score
from streamer.evaluation.latency import LiveTranscript
from streamer.evaluation.manifest import ManifestRow, read_manifest
from streamer.evaluation.percentiles import percentile
from streamer.evaluation.play import Evaluation
from streamer.evaluation.scoring import Score, word_scorer
from streamer.library.windows import voice_probabilities
from streamer.text.punctuation import reads_as_finished, without_leading_marks

REST_S = 0.1
"""Shortest silence within speech that is a rest, seconds."""
PAUSES_S = (0.3, 1.5)
"""Shortest and longest pause that is put in, seconds."""
VOICED = 0.35
"""Probability from which on a frame of the voice detector is voice."""


def main() -> None:
    """Print one markdown table, a row for the recordings as they are and one for those with pauses."""
    arguments = argument_parser(__doc__)
    arguments.add_argument("--kind", default="short")
    arguments.add_argument("--seed", type=int, default=1)
    arguments.add_argument("--endpoint-ms", type=whole(), help="as a client sets it; without: turns are sentences")
    arguments.add_argument("--list", action="store_true", help="print the turns of each recording")
    args = arguments.parse_args()
    config = Config(model=ModelConfig(name=args.model, threads=1))
    config = msgspec.structs.replace(
        config, session=msgspec.structs.replace(config.session, language="en", endpoint_ms=args.endpoint_ms)
    )
    engines = build_engines(config, CollectorRegistry())
    found = [r for r in read_manifest(args.manifest) if r.language == "en" and r.kind == args.kind]
    rows = some(found, args.manifest, f"of English with kind {args.kind}")
    at_once = Evaluation(config, engines, rows, args.manifest.parent).one_shot()
    chance = random.Random(args.seed)
    as_they_are = read_recordings(args.manifest, rows)
    paused = [with_pauses(samples, engines.front_end, chance) for samples in as_they_are]
    print(f"{args.model}, {engines.model.dtype}, {len(rows)} recordings\n")
    print("| sound | turns a sentence | begin with a mark | wer % | formatted, live / at once % | commit P50 / P95 |")
    print("|---|---:|---:|---:|---:|---:|", flush=True)
    for name, recordings in (("as it is", as_they_are), ("with pauses", paused)):
        transcripts = play(config, engines, recordings)
        print(table_row(name, rows, transcripts, at_once), flush=True)
        if args.list:
            for row, transcript in zip(rows, transcripts, strict=True):
                print(f"    {row.id}: {' / '.join(turn.text for turn in transcript.turns)}", flush=True)


def table_row(
    name: str, rows: Sequence[ManifestRow], transcripts: Sequence[LiveTranscript], at_once: Sequence[str]
) -> str:
    """
    The figures of one set of transcripts.

    Args:
        name: Of the sound.
        rows: The recordings, with their references.
        transcripts: One for each row.
        at_once: Text of each recording as decoded at once, without added pauses.
    """
    score = word_scorer()
    scores = [score("en", row.text, live.text) for row, live in zip(rows, transcripts, strict=True)]
    formatted = [formatted_score("en", row.text, live.text) for row, live in zip(rows, transcripts, strict=True)]
    one_shot = [formatted_score("en", row.text, text) for row, text in zip(rows, at_once, strict=True)]
    turns = [turn.text for transcript in transcripts for turn in transcript.turns]
    marked = sum(without_leading_marks(text) != text for text in turns)
    n_sentences = sum(max(1, sentences(text)) for text in at_once)
    commits = [x for transcript in transcripts for x in transcript.commit_s]
    return (
        f"| {name} | {len(turns) / n_sentences:.2f} ({len(turns)} of {n_sentences}) | {marked} | {rate(scores):.2f} "
        f"| {rate(formatted):.2f} / {rate(one_shot):.2f} "
        f"| {percentile(commits, 50):.2f} / {percentile(commits, 95):.2f} s |"
    )


def rate(scores: Sequence[Score | None]) -> float:
    """Errors in per cent of the words of all references that are judged."""
    judged = [score for score in scores if score]
    return 100 * sum(score.errors for score in judged) / sum(score.words for score in judged)


def sentences(text: str) -> int:
    """Sentences of a text, an unfinished one at its end included."""
    words = text.split()
    ends = sum(reads_as_finished(" ".join(words[max(0, i - 1) : i + 1])) for i in range(len(words)))
    return ends + bool(words and not reads_as_finished(text))


def with_pauses(samples: Samples, front_end: FrontEnd, chance: random.Random) -> Samples:
    """
    A recording with a pause of random length in every rest.

    Args:
        samples: (n,), mono at 16 kHz.
        front_end: Finds the voice.
        chance: Draws the lengths.
    """
    pieces, at = [], 0
    for first, end in rests(voice_probabilities(front_end, samples)):
        middle = (first + end) // 2 * FRAME_SAMPLES
        rest = samples[first * FRAME_SAMPLES : end * FRAME_SAMPLES]
        n = round(chance.uniform(*PAUSES_S) * SAMPLE_RATE)
        # there and back again: no click where the sound of the rest begins anew
        loop = np.concatenate([rest, rest[::-1]])
        pieces += [samples[at:middle], np.resize(loop, n)]
        at = middle
    return np.concatenate([*pieces, samples[at:]]).astype(np.float32)


def rests(probabilities: Sequence[float]) -> list[tuple[int, int]]:
    """First frame and end of each silence of at least `REST_S` between two voiced frames of 32 ms."""
    voiced = [i for i, probability in enumerate(probabilities) if probability >= VOICED]
    least = REST_S * SAMPLE_RATE / FRAME_SAMPLES
    return [(a + 1, b) for a, b in itertools.pairwise(voiced) if b - a - 1 >= least]


if __name__ == "__main__":
    program(main)
