"""
What each rule of live text saves and costs: all recordings, with one rule less each time.

    python -m benchmarks.ablation MANIFEST [--model tiny.en] [--kinds short,noisy] [--rules sentences,commas]

A rule is taken away for the length of a run: its function or its bound is replaced by one that never applies.
Everything else is as shipped; the recordings are played on a simulated clock. What a rule costs is in the last two
columns: the time from the end of a word to its commit, and the processor time of the run. A rule that changes nothing
here may still be the last one that keeps a session from repeating itself for ever.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

from prometheus_client import CollectorRegistry

from benchmarks.arguments import program
from benchmarks.common import argument_parser, some
from streamer.audio.raising import Raiser
from streamer.build.engines import Engines, build_engines
from streamer.config import Config, ModelConfig
from streamer.evaluation.judge import Judge, JudgedRecording
from streamer.evaluation.manifest import ManifestRow, read_manifest
from streamer.evaluation.percentiles import percentile
from streamer.evaluation.play import Evaluation, EvaluationOptions
from streamer.protocol.options import PAUSE_MS
from streamer.session.voice_activity import VoiceTracker
from streamer.session.window_text import WindowText


@contextmanager
def replaced(name: str, value: object) -> Iterator[None]:
    """
    Replace a function or a constant in every module of `streamer.session` and `streamer.engine` that has it, also by
    import.

    Raises:
        LookupError: None has it.
    """
    folders = ("streamer.session.", "streamer.engine.")
    modules = [module for path, module in sys.modules.items() if path.startswith(folders) and hasattr(module, name)]
    if not modules:
        raise LookupError(f"no module of {' and '.join(folders)} has {name}: it was renamed or moved")
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
    "repetition loops are cut": lambda: replaced("find_loop", lambda *_: None),
    "rounds without sound were not said": lambda: replaced("without_unsaid_rounds", lambda _, words: list(words)),
    "a window that repeats itself rolls to its last round": lambda: patch.object(
        WindowText, "newest_round_s", lambda _: None
    ),
    "an end of text with voice behind it is rejected": lambda: replaced("EARLY_END_S", float("inf")),
    "a prefix that leads astray is dropped": lambda: replaced("STRAYED_S", float("inf")),
    "a word that may be a half waits": lambda: replaced("HALF", 0.0),
    "a window is encoded whole each time it has doubled": lambda: replaced("is_outgrown", lambda *_: False),
    "turns are sentences": lambda: replaced("ending_pause_ms", lambda *_: PAUSE_MS),
    "commas are likelier where the voice rests": lambda: replaced("COMMA", 0.0),
    "a sentence begins with a capital": lambda: replaced("SMALL_LETTER", 0.0),
    "quiet voices are raised": lambda: replaced("raise_quiet", lambda log_mel, _: (log_mel, ())),
    "quiet sound is raised for the voice detector": lambda: patch.object(Raiser, "raised", lambda _, frames: frames),
}
"""The name of each rule, and a context without it, in which engines are built and recordings are played."""


COSTS = ("commit P50 / P95, s", "processor s")
"""Heads of the last two columns."""


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
    commit_s: list[float] = field(default_factory=list)
    """From the end of each word to its commit, seconds."""


def main() -> None:
    """Print a row for each rule."""
    parser = argument_parser(__doc__)
    parser.add_argument("--kinds", default="", help="of recordings: short,noisy; all by default")
    parser.add_argument("--rules", default="", help="parts of their names: sentences,commas; all by default")
    args = parser.parse_args()
    config, manifest = Config(model=ModelConfig(name=args.model)), args.manifest
    chosen = _rows(read_manifest(manifest), args.kinds, is_english=args.model.endswith(".en"))
    rows = some(chosen, manifest, f"with kind {args.kinds or 'other than foreign'}")
    kinds = [kind for kind in dict.fromkeys(row.kind for row in rows) if kind != "nonspeech"]
    heads = ["without", *(f"{kind} %" for kind in kinds), "inserted", "lost", "words on no speech", *COSTS]
    print(f"| {' | '.join(heads)} |\n|---|{'---:|' * (len(heads) - 1)}")
    for rule, without in RULES.items():
        if any(part in rule for part in ["as shipped", *args.rules.split(",")]):
            with without():
                engines = build_engines(config, CollectorRegistry())
                began_s = time.process_time()
                found = outcome(play(config, engines, rows, manifest.parent))
            print(_line(rule, kinds, found, time.process_time() - began_s), flush=True)


def _rows(rows: Sequence[ManifestRow], kinds: str, *, is_english: bool) -> list[ManifestRow]:
    known = [row for row in rows if not (is_english and row.kind == "foreign")]
    return [row for row in known if not kinds or row.kind in kinds.split(",")]


def _line(rule: str, kinds: Sequence[str], found: Outcome, processor_s: float) -> str:
    rates = [f"{100 * found.errors[kind] / found.n_words[kind]:.2f}" for kind in kinds]
    delay = f"{percentile(found.commit_s, 50):.2f} / {percentile(found.commit_s, 95):.2f}"
    cells = [rule, *rates, found.inserted, found.deleted, found.invented, delay, f"{processor_s:.0f}"]
    return f"| {' | '.join(map(str, cells))} |"


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
        found.commit_s += each.transcript.commit_s
        found.errors[each.kind] += each.score.errors
        found.n_words[each.kind] += each.score.words
        found.inserted += sum(not difference.said for difference in differences)
        found.deleted += sum(not difference.heard for difference in differences)
    return found


if __name__ == "__main__":
    program(main)
