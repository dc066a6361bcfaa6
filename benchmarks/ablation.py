"""
What each rule against wrong, invented and lost words saves and costs: all recordings, with one rule less each time.

    python -m benchmarks.ablation MANIFEST [--model tiny.en]

A rule is taken away for the length of a run: its function or its bound is replaced by one that never applies.
Everything else is as shipped; the recordings are played on a simulated clock. A rule that changes nothing here may
still be the last one that keeps a session from repeating itself for ever.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

from prometheus_client import CollectorRegistry

from benchmarks.common import argument_parser
from streamer.build.engines import Engines, build_engines
from streamer.config import Config, ModelConfig
from streamer.evaluation.judge import Judge, JudgedRecording
from streamer.evaluation.manifest import ManifestRow, read_manifest
from streamer.evaluation.play import Evaluation, EvaluationOptions
from streamer.session.voice_activity import VoiceTracker


@contextmanager
def replaced(name: str, value: object) -> Iterator[None]:
    """
    Replace a function or a constant in every module of `streamer.session` that has it, also by import.

    Raises:
        LookupError: None has it.
    """
    modules = [
        module for path, module in sys.modules.items() if path.startswith("streamer.session.") and hasattr(module, name)
    ]
    if not modules:
        raise LookupError(f"no module of streamer.session has {name}: it was renamed or moved")
    with ExitStack() as stack:
        for module in modules:
            stack.enter_context(patch.object(module, name, value))
        yield


def _always_voice(voice: VoiceTracker, _probability: float, push: Any = VoiceTracker.push) -> bool:
    return bool(push(voice, 1.0))


RULES: Mapping[str, Callable[[], AbstractContextManager[object]]] = {
    "as shipped": nullcontext,
    "only speech is decoded (voice activity)": lambda: patch.object(VoiceTracker, "push", _always_voice),
    "unlikely text is no speech, or a run-on": lambda: replaced("is_unlikely", lambda _: False),
    "repetition loops are cut": lambda: replaced("repetition_start", lambda *_: None),
    "an end of text with voice behind it is rejected": lambda: replaced("EARLY_END_S", float("inf")),
    "a window is encoded whole each time it has doubled": lambda: patch(
        "streamer.engine.window_encoder.is_outgrown", lambda *_: False
    ),
}
"""The name of each rule, and a context without it."""


@dataclass(slots=True)
class Outcome:
    """The errors of one run."""

    errors: Counter[str] = field(default_factory=Counter)
    """By kind of recording."""
    n_words: Counter[str] = field(default_factory=Counter)
    """By kind of recording."""
    inserted: int = 0
    deleted: int = 0
    invented: int = 0
    """Words in recordings without speech."""


def main() -> None:
    """Print a row for each rule."""
    args = argument_parser(__doc__).parse_args()
    config = Config(model=ModelConfig(name=args.model))
    engines = build_engines(config, CollectorRegistry())
    rows = [row for row in read_manifest(args.manifest) if engines.tokenizer.multilingual or row.kind != "foreign"]
    kinds = [kind for kind in dict.fromkeys(row.kind for row in rows) if kind != "nonspeech"]
    print(f"| without | {' | '.join(f'{kind} %' for kind in kinds)} | inserted | lost | words on no speech |")
    print("|---|" + "---:|" * (len(kinds) + 3))
    for rule, without in RULES.items():
        with without():
            found = outcome(play(config, engines, rows, args.manifest.parent))
        rates = " | ".join(f"{100 * found.errors[kind] / found.n_words[kind]:.2f}" for kind in kinds)
        print(f"| {rule} | {rates} | {found.inserted} | {found.deleted} | {found.invented} |", flush=True)


def play(config: Config, engines: Engines, rows: Sequence[ManifestRow], folder: Path) -> list[JudgedRecording]:
    """
    Play all recordings on a simulated clock, and judge them.

    Args:
        config: Model and session.
        engines: Built from `config`.
        rows: The recordings.
        folder: Their files are relative to it.
    """
    evaluation = Evaluation(config, engines, rows, folder)
    transcripts = evaluation.play(EvaluationOptions(pace="simulated"), config.session.delay)
    return Judge({}).judge(rows, transcripts, None)


def outcome(judged: Sequence[JudgedRecording]) -> Outcome:
    """Add up the errors of all recordings."""
    found = Outcome()
    for each in judged:
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
