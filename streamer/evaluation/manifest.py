"""Files that describe recordings: the manifest, with what is said in each, and the times of its words."""

from __future__ import annotations

from pathlib import Path

import msgspec

from streamer.errors import ConfigError, UnreadableFileError, reason_of
from streamer.evaluation.word_timing import Segment, TimedWord


class ManifestRow(msgspec.Struct, frozen=True, kw_only=True):
    """One recording of a manifest; other fields of a row are ignored."""

    id: str
    file: str
    """Relative to the manifest, or absolute."""
    text: str = ""
    """The reference; empty for recordings without speech."""
    language: str = ""
    """A code as `en`; empty to detect the language."""
    kind: str = ""
    """Free text by which rows are chosen and figures grouped, as `short` or `noisy`."""
    tags: tuple[str, ...] = ()
    """Conditions of the recording, as `babble5` or `phone`: figures are grouped by each of them too."""
    segments: tuple[Segment, ...] = ()
    """Where somebody speaks; empty where that is not known."""
    lead_in_s: float = 0.0
    """Digital silence to play before it."""


def read_manifest(path: Path) -> list[ManifestRow]:
    """
    Read a manifest: JSON lines, one row each; empty lines are skipped.

    Raises:
        UnreadableFileError: The file cannot be read.
        ConfigError: It is not UTF-8 text, or a line is not a row.
    """
    rows = []
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UnreadableFileError(f"cannot read {path}: {reason_of(error)}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: not UTF-8 text; expected JSON lines with id, file and text") from None
    for number, line in enumerate(text.split("\n"), 1):  # other ends of lines may stand in a text of JSON
        if line.strip():
            try:
                rows.append(msgspec.json.decode(line, type=ManifestRow))
            except (ValueError, RecursionError) as error:  # msgspec's own among them
                raise ConfigError(f"{path} line {number}: {error}; expected an object with id, file and text") from None
    return rows


def read_word_times(path: Path) -> dict[str, list[TimedWord]]:
    """
    Read a JSON table of words with their times, by the id of the recording.

    Raises:
        UnreadableFileError: The file cannot be read.
        ConfigError: It is not such a table.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, list[TimedWord]])
    except OSError as error:
        raise UnreadableFileError(f"cannot read {path}: {reason_of(error)}") from None
    except (ValueError, RecursionError) as error:  # msgspec's own, and those of bytes that are no UTF-8
        raise ConfigError(f"{path}: {error}; expected id -> list of objects with word, start_s and end_s") from None
