"""Manifests: JSON lines that name recordings and what is said in them. Pure but for reading the file."""

from __future__ import annotations

from pathlib import Path

import msgspec

from streamer.errors import ConfigError
from streamer.evaluation.word_timing import Segment


class ManifestRow(msgspec.Struct, frozen=True, kw_only=True):
    """One recording; other fields of a row are ignored."""

    id: str
    file: str
    """Relative to the manifest, or absolute."""
    text: str = ""
    """What is said in it; empty for recordings without speech."""
    language: str = ""
    kind: str = ""
    segments: tuple[Segment, ...] = ()
    """Where in it somebody speaks, if that is known."""
    lead_in_s: float = 0.0
    """Digital silence to be played before it."""


def read_manifest(path: Path) -> list[ManifestRow]:
    """
    Rows of a manifest.

    Raises:
        ConfigError: A line is not a row.
    """
    rows = []
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: not UTF-8 text; expected JSON lines with id, file and text") from None
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            try:
                rows.append(msgspec.json.decode(line, type=ManifestRow))
            except msgspec.DecodeError as error:
                raise ConfigError(f"{path} line {number}: {error}; expected an object with id, file and text") from None
    return rows
