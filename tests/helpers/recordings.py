"""Recordings listed in a manifest."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Recording:
    """One row of the manifest with its samples."""

    id: str
    language: str
    text: str
    samples: NDArray[np.float32]
    """Mono, 16 kHz."""


def read_recordings(folder: Path) -> dict[str, Recording]:
    """The recordings of `folder/manifest.jsonl`, by id."""
    rows = [json.loads(line) for line in (folder / "manifest.jsonl").read_text().splitlines()]
    return {row["id"]: _recording(folder, row) for row in rows}


def _recording(folder: Path, row: dict[str, str]) -> Recording:
    samples, rate = soundfile.read(folder / row["file"], dtype="float32")
    assert rate == 16_000
    assert samples.ndim == 1
    return Recording(row["id"], row["language"], row["text"], samples)
