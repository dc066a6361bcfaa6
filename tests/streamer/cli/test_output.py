"""Tests of streamer.cli.output."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.cli.output import TranscriptFile, chosen_format, output_paths
from streamer.errors import ConfigError, StreamerError
from streamer.protocol.events import TurnEnd

TURN = TurnEnd(turn=0, text="So.", start_s=0.0, end_s=1.0, language="en", reason="silence")


@pytest.mark.parametrize(
    ("asked", "output", "chosen"),
    [(None, None, "txt"), (None, "a.SRT", "srt"), (None, "a.wav", "txt"), ("vtt", "a.srt", "vtt"), (None, "a", "txt")],
)
def test_the_format_is_asked_for_or_the_extension(asked: str | None, output: str | None, chosen: str) -> None:
    """Otherwise plain text."""
    assert chosen_format(asked, Path(output) if output else None) == chosen


@given(st.lists(st.sampled_from(["a.wav", "a.mp3", "b/a.wav", "a-2.wav", "-", "c"]), min_size=2, max_size=6))
def test_every_file_of_a_folder_has_a_path_of_its_own(names: list[str]) -> None:
    """Those of one name get numbers."""
    paths = output_paths([Path(name) for name in names], Path("/nowhere/out"), "srt")
    assert len(set(paths)) == len(names)
    assert {path.parent for path in paths if path} == {Path("/nowhere/out")}
    assert {path.suffix for path in paths if path} == {".srt"}


def test_one_file_goes_to_the_path_or_into_the_folder(tmp_path: Path) -> None:
    """A folder that exists takes it under its own name."""
    assert output_paths([Path("a.wav")], tmp_path / "x.srt", "srt") == [tmp_path / "x.srt"]
    assert output_paths([Path("a.wav")], tmp_path, "srt") == [tmp_path / "a.srt"]
    assert output_paths([Path("a.wav")], None, "srt") == [None]


@pytest.mark.parametrize("format_", ["json", "srt", "vtt", "ttml"])
def test_several_documents_do_not_share_standard_output(format_: str) -> None:
    """Joined, they would be no document."""
    files = [Path("a.wav"), Path("b.wav")]
    with pytest.raises(ConfigError, match=f"several files as {format_} need a file each: name a folder with --output"):
        output_paths(files, None, format_)
    assert output_paths(files, None, "txt") == output_paths(files, None, "jsonl") == [None, None]


def test_no_recording_is_overwritten(tmp_path: Path) -> None:
    """Nor is a file taken for a folder."""
    recording = tmp_path / "a.txt"
    recording.touch()
    with pytest.raises(ConfigError, match=r"would overwrite the recording .*a\.txt"):
        output_paths([recording], recording, "txt")
    with pytest.raises(ConfigError, match=r"would overwrite the recording .*a\.txt"):
        output_paths([recording], tmp_path, "txt")
    with pytest.raises(ConfigError, match="is a file: expected a folder for 2 transcripts"):
        output_paths([Path("b"), Path("c")], recording, "txt")


def test_a_transcript_file_is_complete_after_each_turn(tmp_path: Path) -> None:
    """Whenever the program ends."""
    path = tmp_path / "deep" / "talk.json"
    file = TranscriptFile(path)
    assert json.loads(path.read_text())["turns"] == []
    file.take(TURN)
    assert json.loads(path.read_text())["text"] == "So."


def test_a_transcript_file_that_cannot_be_written_is_told_at_once(tmp_path: Path) -> None:
    """Before anybody speaks."""
    with pytest.raises(StreamerError, match=r"cannot write .*: is a directory"):
        TranscriptFile(tmp_path)
