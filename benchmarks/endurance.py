"""
Hours of speech through one session: word error rate, memory, turns, and whether a minute costs the same at the end.

    python benchmarks/endurance.py MANIFEST [--model tiny.en] [--minutes 60]

Recordings of kind "long" are looped, as fast as the session takes them, through the same scheduler and engine that
serve live streams. Every ten minutes of audio: memory, and the processor's time for each second of them.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
from pathlib import Path

import jiwer
import numpy as np
import psutil
from whisper_normalizer.english import EnglishTextNormalizer

from streamer.audio_file import read_audio
from streamer.config import Config, ModelConfig
from streamer.evaluate import read_manifest
from streamer.events import Event, TurnEnd
from streamer.mel import SAMPLE_RATE
from streamer.options import SessionOptions
from streamer.parts import Parts, build
from streamer.recital import play
from streamer.transcribe import running


def main() -> None:
    """Print one line each ten minutes of audio, then the totals."""
    arguments = argparse.ArgumentParser()
    arguments.add_argument("manifest", type=Path)
    arguments.add_argument("--model", default="tiny.en")
    arguments.add_argument("--minutes", type=float, default=60.0)
    args = arguments.parse_args()
    rows = [row for row in read_manifest(args.manifest) if row.kind == "long" and "silence" not in row.id]
    clips = [(read_audio(args.manifest.parent / row.file), row.text) for row in rows]
    samples, texts, n = [], [], 0
    while n < args.minutes * 60 * SAMPLE_RATE:
        clip, text = clips[len(texts) % len(clips)]
        samples += [clip, np.zeros(SAMPLE_RATE, np.float32)]
        texts.append(text)
        n += len(clip) + SAMPLE_RATE
    parts = build(Config(model=ModelConfig(name=args.model)))
    turns = asyncio.run(_recite(parts, np.concatenate(samples)))
    normalise = EnglishTextNormalizer()
    counted = jiwer.process_words(normalise(" ".join(texts)), normalise(" ".join(turn.text for turn in turns)))
    longest_s = max(turn.end_s - turn.start_s for turn in turns)
    gap_s = max(b.start_s - a.end_s for a, b in itertools.pairwise(turns))
    print(f"{n / SAMPLE_RATE / 60:.1f} min, {len(turns)} turns, longest {longest_s:.1f} s, longest gap {gap_s:.1f} s")
    print(
        f"word error rate {100 * counted.wer:.2f} %: {counted.substitutions} substitutions, {counted.deletions} "
        f"deletions, {counted.insertions} insertions in {len(normalise(' '.join(texts)).split())} words"
    )


async def _recite(parts: Parts, samples: np.ndarray) -> list[TurnEnd]:
    turns: list[TurnEnd] = []
    process, next_s, before_s, cpu_s = psutil.Process(), 0.0, 0.0, 0.0
    async with running(parts.scheduler):
        stream = parts.scheduler.open(SessionOptions(language="en"))
        event: Event
        async for now_s, event in play(stream, samples, realtime=False):
            if isinstance(event, TurnEnd):
                turns.append(event)
            if now_s >= next_s:
                times = process.cpu_times()
                cost = (times.user + times.system - cpu_s) / max(1.0, now_s - before_s)
                before_s, cpu_s = now_s, times.user + times.system
                mb = process.memory_info().rss / 2**20
                print(f"{now_s / 60:6.1f} min  rss {mb:.0f} MB  {1e3 * cost:.1f} ms of CPU per second", flush=True)
                next_s += 600.0
    return turns


if __name__ == "__main__":
    main()
