"""
Speech that repeats itself: phrases of 1 to 9 words, said 1 to 10 times, then another clause, on a simulated clock.

    python -m benchmarks.repetition tests/data/manifest.jsonl [--model tiny.en] [--gaps 0.1,0.6] [--counts 1,2] [--list]

Two voices, cut from recordings whose words are timed. A phrase counts as said as often as the median of its words is
in the text before the clause; "lost" counts the words by which the text after that is shorter than the clause.
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Sequence
from typing import NamedTuple

import msgspec
import numpy as np
from prometheus_client import CollectorRegistry

from benchmarks.arguments import listed, number, program, whole
from benchmarks.common import argument_parser, read_recordings
from benchmarks.degraded import play
from streamer.audio.pcm import SAMPLE_RATE, Samples
from streamer.build.engines import build_engines
from streamer.config import Config, ModelConfig
from streamer.errors import ConfigError
from streamer.evaluation.manifest import read_manifest
from streamer.evaluation.scoring import text_normaliser

FADE = 160
"""Samples over which a cut fades in and out."""


class Clip(NamedTuple):
    """A part of a recording, and what is said in it."""

    recording: str
    start_s: float
    end_s: float
    text: str


JFK, READER = "dev-jfk", "dev-sns-0870"
CLAUSES = {
    JFK: Clip(JFK, 8.05, 10.7, "ask what you can do for your country"),
    READER: Clip(READER, 5.44, 6.9, "in his power to do for them"),
}
PHRASES = [
    Clip(JFK, 3.24, 4.48, "ask not"),
    Clip(JFK, 0.3, 2.3, "and so my fellow americans"),
    Clip(JFK, 5.2, 7.75, "what your country can do for you"),
    Clip(JFK, 8.05, 10.7, "ask what you can do for your country"),
    Clip(READER, 2.86, 3.46, "consider"),
    Clip(READER, 0.62, 1.62, "john dashwood"),
    Clip(READER, 2.2, 3.46, "leisure to consider"),
    Clip(READER, 3.44, 4.96, "how much there might be"),
]


class Case(NamedTuple):
    """A phrase, how often it is said, and the seconds of silence between."""

    phrase: Clip
    n_rounds: int
    gap_s: float


class Outcome(NamedTuple):
    """What was heard of a case."""

    case: Case
    heard: float
    """How often the phrase is in the text."""
    lost: int
    """Words by which the text after it is shorter than the clause."""
    text: str


def main() -> None:
    """Print one markdown table, a row for each phrase and one for all."""
    arguments = argument_parser(__doc__)
    arguments.add_argument("--gaps", type=listed(number()), default="0.1,0.3,0.6", help="seconds between two rounds")
    arguments.add_argument("--counts", type=listed(whole()), default="1,2,3,4,5,6,7,8,9,10", help="rounds")
    arguments.add_argument("--list", action="store_true", help="print the text of each case that is not exact")
    args = arguments.parse_args()
    config = Config(model=ModelConfig(name=args.model, threads=1))
    config = msgspec.structs.replace(config, session=msgspec.structs.replace(config.session, language="en"))
    engines = build_engines(config, CollectorRegistry())
    rows = read_manifest(args.manifest)
    recordings = dict(zip([row.id for row in rows], read_recordings(args.manifest, rows), strict=True))
    if missing := {clip.recording for clip in (*PHRASES, *CLAUSES.values())} - recordings.keys():
        names = ", ".join(sorted(missing))
        raise ConfigError(f"{args.manifest}: no recordings {names}: expected tests/data/manifest.jsonl")
    cases = [Case(*each) for each in itertools.product(PHRASES, args.counts, args.gaps)]
    transcripts = play(config, engines, [sound(case, recordings) for case in cases])
    outcomes = [outcome(case, live.text) for case, live in zip(cases, transcripts, strict=True)]
    print(f"{args.model}, {engines.model.dtype}, {len(cases)} cases\n")
    print("| phrase | exact | fewer | more | words of the clause lost |")
    print("|---|---:|---:|---:|---:|")
    for phrase in PHRASES:
        print(table_row(phrase.text, [one for one in outcomes if one.case.phrase is phrase]))
    print(table_row("all", outcomes), flush=True)
    for one in outcomes if args.list else ():
        if one.heard != one.case.n_rounds or one.lost:
            print(f"    {one.case.n_rounds} x, {one.case.gap_s} s: {one.heard:g}, lost {one.lost}: {one.text}")


def sound(case: Case, recordings: dict[str, Samples]) -> Samples:
    """The sound of a case, (n,), mono at 16 kHz, with a second of silence before and after."""
    gap, second = np.zeros(round(case.gap_s * SAMPLE_RATE), np.float32), np.zeros(SAMPLE_RATE, np.float32)
    said = cut(case.phrase, recordings)
    rounds = [piece for _ in range(case.n_rounds) for piece in (said, gap)]
    return np.concatenate([second, *rounds, cut(CLAUSES[case.phrase.recording], recordings), second])


def cut(clip: Clip, recordings: dict[str, Samples]) -> Samples:
    """The samples of a clip, (n,), faded in and out over 10 ms."""
    samples = recordings[clip.recording][round(clip.start_s * SAMPLE_RATE) : round(clip.end_s * SAMPLE_RATE)].copy()
    ramp = np.linspace(0, 1, FADE, dtype=np.float32)
    samples[:FADE] *= ramp
    samples[-FADE:] *= ramp[::-1]
    return samples


def outcome(case: Case, text: str) -> Outcome:
    """Count the phrase and the words of the clause in a text."""
    normalise = text_normaliser()("en")
    words, phrase = normalise(text).split(), normalise(case.phrase.text).split()
    clause = normalise(CLAUSES[case.phrase.recording].text).split()
    before, after = _split(words, clause)
    heard = statistics.median(before.count(word) / phrase.count(word) for word in phrase)
    return Outcome(case, heard, max(0, len(clause) - len(after)), text)


def _split(words: Sequence[str], clause: Sequence[str]) -> tuple[list[str], list[str]]:
    """The words before the clause and from it on: where most words of the clause follow at their places."""
    best = max(
        range(max(1, len(words))),
        key=lambda at: (sum(a == b for a, b in zip(words[at : at + len(clause)], clause, strict=False)), at),
    )
    return [*words[:best]], [*words[best:]]


def table_row(name: str, outcomes: Sequence[Outcome]) -> str:
    """Exact, too few and too many counts, and lost words, of some cases."""
    n = len(outcomes)
    exact = sum(one.heard == one.case.n_rounds for one in outcomes)
    fewer, more = (sum((one.heard - one.case.n_rounds) * sign > 0 for one in outcomes) for sign in (-1, 1))
    lost = sum(one.lost for one in outcomes)
    return f"| {name} | {exact} of {n} ({100 * exact / n:.0f} %) | {fewer} | {more} | {lost} |"


if __name__ == "__main__":
    program(main)
