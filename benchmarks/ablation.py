"""
What each rule against invented and lost words saves and costs: all recordings by stream time, one rule less each time.

    python -m benchmarks.ablation MANIFEST [--model tiny.en]

"Without" replaces the rule by one that never speaks up, for the length of a run; everything else is as shipped. A
rule that changes nothing here may still be the last resort that keeps a session from going in circles for ever.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

from prometheus_client import CollectorRegistry

from streamer.build import Engines, build_engines
from streamer.config import Config, ModelConfig
from streamer.evaluation.evaluate import Evaluation, EvaluationOptions, Judge
from streamer.evaluation.manifest import ManifestRow, read_manifest
from streamer.evaluation.report import Played
from streamer.session import early_ends, plausibility
from streamer.session.voice_activity import VoiceTracker


def _always_voice(voice: VoiceTracker, _probability: float, push: Any = VoiceTracker.push) -> bool:
    return bool(push(voice, 1.0))


RULES: dict[str, AbstractContextManager[object]] = {
    "as shipped": nullcontext(),
    "voice: every frame is speech": patch.object(VoiceTracker, "push", _always_voice),
    "unlikely text is no speech, or said only to go on": patch.object(plausibility, "is_unlikely", lambda _: False),
    "circles are cut, and the prompt forgotten": patch.object(plausibility, "repetition_start", lambda *_: None),
    "an end with voice beyond it is not believed": patch.object(early_ends, "EARLY_END_S", float("inf")),
}


@dataclass(slots=True)
class Outcome:
    """Of one run."""

    errors: Counter[str] = field(default_factory=Counter)
    """By kind."""
    n_words: Counter[str] = field(default_factory=Counter)
    inserted: int = 0
    deleted: int = 0
    invented: int = 0
    """Words on recordings without speech."""


def main() -> None:
    """Print a row for each rule."""
    arguments = argparse.ArgumentParser(description=__doc__.strip().splitlines()[0])
    arguments.add_argument("manifest", type=Path)
    arguments.add_argument("--model", default="tiny.en")
    args = arguments.parse_args()
    config = Config(model=ModelConfig(name=args.model))
    engines = build_engines(config, CollectorRegistry())
    rows = [row for row in read_manifest(args.manifest) if engines.tokenizer.multilingual or row.kind != "foreign"]
    kinds = [kind for kind in dict.fromkeys(row.kind for row in rows) if kind != "nonspeech"]
    print(f"| without | {' | '.join(f'{kind} %' for kind in kinds)} | inserted | lost | words on no speech |")
    print("|---|" + "---:|" * (len(kinds) + 3))
    for rule, without in RULES.items():
        with without:
            found = outcome(play(config, engines, rows, args.manifest.parent))
        rates = " | ".join(f"{100 * found.errors[kind] / found.n_words[kind]:.2f}" for kind in kinds)
        print(f"| {rule} | {rates} | {found.inserted} | {found.deleted} | {found.invented} |", flush=True)


def play(config: Config, engines: Engines, rows: Sequence[ManifestRow], folder: Path) -> list[Played]:
    """All recordings."""
    evaluation = Evaluation(config, engines, rows, folder)
    transcripts = evaluation.play(EvaluationOptions(pace="simulated"), config.session.delay)
    return Judge({}).played(rows, transcripts, None)


def outcome(played: Sequence[Played]) -> Outcome:
    """The errors of all recordings."""
    found = Outcome()
    for each in played:
        if each.kind == "nonspeech":
            found.invented += len(each.transcript.text.split())
            continue
        differences = each.score.differences
        found.errors[each.kind] += each.score.errors
        found.n_words[each.kind] += each.score.words
        found.inserted += sum(not difference.said for difference in differences)
        found.deleted += sum(not difference.heard for difference in differences)
    return found


if __name__ == "__main__":
    main()
