"""Tests of streamer/evaluation/manifest.py."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from streamer.errors import ConfigError, UnreadableFileError
from streamer.evaluation.manifest import ManifestRow, read_manifest, read_word_times


def manifest(folder: Path, *rows: object) -> Path:
    """A manifest of these rows; text is written as it is."""
    path = folder / "manifest.jsonl"
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows), encoding="utf-8")
    return path


def test_a_row_needs_an_id_and_a_file(tmp_path: Path) -> None:
    """Blank lines and unknown fields are skipped; text, language, kind and tags may be missing."""
    path = manifest(
        tmp_path, {"id": "a", "file": "a.wav", "text": "so", "language": "en", "kind": "short", "licence": "CC0"},
        "", {"id": "b", "file": "b.wav", "tags": ["phone", "babble5"]},
    )  # fmt: skip
    assert read_manifest(path) == [
        ManifestRow(id="a", file="a.wav", text="so", language="en", kind="short"),
        ManifestRow(id="b", file="b.wav", tags=("phone", "babble5")),
    ]


@pytest.mark.parametrize("line", ["{", "[]", '{"id": "b"}', '{"id": 3, "file": "b.wav"}', "b.wav",
                                  pytest.param('{"x": ' + "[" * 100_000, id="nested too deep")])  # fmt: skip
def test_errors_name_the_line(tmp_path: Path, line: str) -> None:
    """A line that is no row is named with its number and what is expected."""
    path = manifest(tmp_path, {"id": "a", "file": "a.wav"}, line)
    with pytest.raises(ConfigError, match=r"manifest\.jsonl line 2: .* expected an object with id, file and text"):
        read_manifest(path)


def test_a_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    """A recording given in place of a manifest is named."""
    path = tmp_path / "speech.flac"
    path.write_bytes(b"fLaC\xff\xfe\x00")
    with pytest.raises(ConfigError, match=r"speech\.flac"):
        read_manifest(path)


def test_a_text_may_hold_any_character(tmp_path: Path) -> None:
    """Also those that end lines elsewhere; an editor's mark in front of the file is passed over."""
    path = tmp_path / "manifest.jsonl"
    path.write_text('{"id": "a", "file": "a.wav", "text": "so\u2028then\u0085"}\r\n', encoding="utf-8-sig", newline="")
    assert [row.text for row in read_manifest(path)] == ["so\u2028then\u0085"]


@pytest.mark.parametrize("text", [b"[]", b'{"a": [{"word": "so"}]}', b"{", b'{"a": [{"word": "\xff"}]}'])
def test_word_times_of_another_shape_are_refused(tmp_path: Path, text: bytes) -> None:
    """The error names the file and what is expected."""
    path = tmp_path / "times.json"
    path.write_bytes(text)
    with pytest.raises(ConfigError, match=r"times\.json: .*expected id -> list of objects with word"):
        read_word_times(path)


@pytest.mark.parametrize("read", [read_manifest, read_word_times])
def test_a_file_that_cannot_be_read_is_told(read: Callable[[Path], object], tmp_path: Path) -> None:
    """A folder, and one that is not there."""
    with pytest.raises(UnreadableFileError, match=r"^cannot read .*: is a directory"):
        read(tmp_path)
    with pytest.raises(UnreadableFileError, match=r"^cannot read .*/none: no such file or directory"):
        read(tmp_path / "none")
