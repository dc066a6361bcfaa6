"""
Gain and cost of key terms at several strengths: names found where they are spoken, word errors where they are not.

    python -m benchmarks.keyterms MANIFEST [--model tiny.en] [--strengths 0:0 1:3 …]

Each recording is decoded once, as the live path decodes a window. "own" favours the names of all recordings, those of
the recording among them: the gain is counted in names found. "others" favours only names that are not spoken: the cost
is counted in word errors. The names are those of the development set that are not ordinary words.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from prometheus_client import CollectorRegistry

from benchmarks.arguments import number, program
from benchmarks.common import argument_parser, load_network, read_recordings, some
from streamer.audio.mel import MelSpectrogram
from streamer.audio.pcm import SAMPLE_RATE
from streamer.engine.engine import WhisperEngine
from streamer.engine.keyterms import Strength
from streamer.engine.options import EngineOptions
from streamer.evaluation.manifest import ManifestRow, read_manifest
from streamer.evaluation.scoring import word_scorer
from streamer.step import StepRequest
from streamer.telemetry.metrics import EngineMetrics

NAMES = {
    "dev-ls-8630-305212-0000": ("Augustine", "Carthage", "Patricius", "Monica"),
    "dev-ls-3879-173592-0000": ("Appalache",),
    "dev-ls-3983-5331-0000": ("West Lynne", "Carlyle"),
    "dev-ls-6925-80680-0000": ("Hindustan",),
    "dev-ls-5049-25947-0000": ("Guasimas", "General Wheeler"),
    "dev-ls-1116-132847-0000": ("Bellah Postik",),
    "dev-ls-4137-11701-0000": ("Coronel", "Hyacinth", "Udo"),
    "dev-ls-4267-287369-0000": ("Jenks", "Parker"),
    "dev-ls-1926-143879-0000": ("Isabel",),
    "dev-ls-2092-145706-0000": ("Kletke",),
    "dev-ls-2391-145015-0000": ("Steventon", "Hants", "Basingstoke"),
    "dev-ls-8425-246962-0000": ("Leopold",),
    "dev-ls-1221-135766-0002": ("Hester Prynne",),
    "dev-sns-0870": ("Dashwood",),
    "dev-arctic-aew_a0001": ("Philip Steels",),
    "dev-arctic-aew_a0002": ("Whittemore",),
    "dev-arctic-a0009": ("Gregson",),
    "dev-noisy-8k-1272-128104-0004": ("Linnell", "Birket Foster", "Carker", "John Collier"),
}
STRENGTHS = ("0:0", "1:2", "1:3", "2:4", "3:5")
BATCH = 8


@dataclass(frozen=True)
class Decoded:
    """The text of one recording under some key terms, and its score."""

    tokens: tuple[int, ...]
    errors: int
    words: int
    names_found: int


def main() -> None:
    """Print one markdown table."""
    arguments = argument_parser(__doc__)
    strengths = [_strength(text) for text in STRENGTHS]
    arguments.add_argument("--strengths", nargs="+", type=_strength, default=strengths, metavar="BEGIN:GO_ON")
    args = arguments.parse_args()
    torch.set_num_threads(1)
    model, tokenizer = load_network(args.model)
    spectrogram = MelSpectrogram(model.dims.n_mels)
    found = [r for r in read_manifest(args.manifest) if r.language == "en" and r.kind in ("short", "noisy")]
    rows = some(found, args.manifest, "of English with kind short or noisy")
    recordings = read_recordings(args.manifest, rows)
    mels = [spectrogram.whole(torch.from_numpy(samples[: 30 * SAMPLE_RATE].copy())) for samples in recordings]
    print(f"{args.model}, {model.dtype}, {len(rows)} recordings, {len(_all_names())} terms\n")
    print("| begin : go on | names found, own favoured | errors, own | errors, others favoured |")
    print("|---|---:|---:|---:|", flush=True)
    drafts: list[tuple[int, ...]] = [()] * len(rows)
    for strength in args.strengths:
        options = EngineOptions(max_batch=BATCH, max_window_s=30.0, keyterms=strength)
        engine = WhisperEngine(model, tokenizer, options, EngineMetrics(CollectorRegistry()))
        own = _decode(engine, rows, mels, drafts, [_all_names() for _ in rows])
        drafts = [heard.tokens for heard in own]
        named = [i for i, row in enumerate(rows) if row.id in NAMES]
        others = list(own)  # the names of a recording without names are all those of others
        for i, heard in zip(named, _decode(engine, *_only(named, rows, mels, drafts, _but(rows))), strict=True):
            others[i] = heard
        words = sum(heard.words for heard in own)
        n_found = sum(heard.names_found for heard in own)
        errors, cost = (sum(heard.errors for heard in each) for each in (own, others))
        cells = f"{n_found} of {len(_all_names())} | {errors} of {words} | {cost} of {words} |"
        print(f"| {strength.begin:g} : {strength.go_on:g} | {cells}", flush=True)


def _strength(text: str) -> Strength:
    begin, colon, go_on = text.partition(":")
    if not colon:
        raise argparse.ArgumentTypeError(f"{text!r}: expected two numbers, as 2:4")
    parse = number()
    return Strength(begin=parse(begin), go_on=parse(go_on))


def _all_names(but: str = "") -> tuple[str, ...]:
    return tuple(name for key, names in NAMES.items() if key != but for name in names)


def _but(rows: Sequence[ManifestRow]) -> list[tuple[str, ...]]:
    return [_all_names(but=row.id) for row in rows]


def _only(indices: Sequence[int], *lists: Sequence[Any]) -> list[list[Any]]:
    return [[each[i] for i in indices] for each in lists]


def _decode(
    engine: WhisperEngine,
    rows: Sequence[ManifestRow],
    mels: Sequence[torch.Tensor],
    drafts: Sequence[tuple[int, ...]],
    terms: Sequence[tuple[str, ...]],
) -> list[Decoded]:
    """Decode every recording under its key terms, those of similar length in one batch."""
    score = word_scorer()
    heard: dict[int, Decoded] = {}
    by_length = sorted(range(len(rows)), key=lambda i: mels[i].shape[1])
    for at in range(0, len(rows), BATCH):
        batch = by_length[at : at + BATCH]
        requests = [
            StepRequest(session=f"{i}", log_mel=mels[i], language="en", draft=drafts[i], keyterms=terms[i])
            for i in batch
        ]
        for i, result in zip(batch, engine.step(requests), strict=True):
            scored = score("en", rows[i].text, engine.tokenizer.decode(result.tokens))
            text = f" {scored.hypothesis} "
            found = sum(f" {name.lower()} " in text for name in NAMES.get(rows[i].id, ()))
            heard[i] = Decoded(result.tokens, scored.errors, scored.words, found)
    return [heard[i] for i in range(len(rows))]


if __name__ == "__main__":
    program(main)
