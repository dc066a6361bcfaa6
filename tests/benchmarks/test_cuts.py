"""Tests of benchmarks/cuts.py: the talks of the speakers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import soundfile

from benchmarks.cuts import talks
from streamer.audio.pcm import SAMPLE_RATE


def manifest(folder: Path) -> Path:
    """Three recordings of a second, one of them in German."""
    rows = []
    for name, language in (("one", "en"), ("two", "en"), ("drei", "de")):
        soundfile.write(folder / f"{name}.wav", np.full(SAMPLE_RATE, 0.5, np.float32), SAMPLE_RATE)
        rows.append({"id": name, "file": f"{name}.wav", "text": name, "language": language, "kind": "short"})
    path = folder / "manifest.jsonl"
    path.write_text("".join(json.dumps({**row, "duration_s": 1.0}) + "\n" for row in rows))
    return path


def test_talks_say_english_recordings_with_a_second_between(tmp_path: Path) -> None:
    """As many as fill the time, in an order that differs from talk to talk."""
    said = talks(manifest(tmp_path), n=8, seconds=2.5)
    assert {talk.text for talk in said} == {"one two", "two one"}
    assert {talk.seconds for talk in said} == {4.0}
    [short] = talks(manifest(tmp_path), n=1, seconds=1.0)
    assert (short.seconds, len(short.pcm)) == (2.0, 2 * SAMPLE_RATE)
