"""Tests of streamer.cli.output."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from streamer.cli.output import FORMATS, TranscriptFile, check_writable, chosen_format, output_paths, written
from streamer.errors import ConfigError, StreamerError
from streamer.protocol.events import TurnEnd, TurnRevised
from streamer.protocol.turns import FinalTurns

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


@pytest.mark.parametrize("format_", FORMATS)
@settings(max_examples=20)
@given(st.lists(st.tuples(st.integers(0, 4), st.booleans(), st.sampled_from(["So.", "And it goes on, and on.", ""]))))
def test_a_transcript_file_holds_what_the_turns_are(
    tmp_path_factory: pytest.TempPathFactory, format_: str, said: list[tuple[int, bool, str]]
) -> None:
    """In every format, whichever turns end, come again or are revised."""
    path = tmp_path_factory.mktemp("talk") / f"talk.{format_}"
    file, turns = TranscriptFile(path), FinalTurns()
    for number, is_revision, text in said:
        ended = structs.replace(TURN, turn=number, text=text, start_s=2.0 * number, end_s=2.0 * number + 1.9)
        event = TurnRevised(turn=number, text=text, language="en", reason="text", model="a") if is_revision else ended
        file.take(event)
        turns.take(event)
        assert path.read_text(encoding="utf-8") == written("microphone", list(turns), format_)
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("name", ["talk.srt", "talk.json"])
def test_a_reader_never_sees_half_a_transcript(tmp_path: Path, name: str) -> None:
    """What it has opened stays whole, and the file that replaces it may be read by the same people."""
    path = tmp_path / name
    file = TranscriptFile(path)
    file.take(TURN)
    path.chmod(0o640)
    with path.open(encoding="utf-8") as reader:
        file.take(structs.replace(TURN, turn=1))
        assert reader.read().count("So.") == path.read_text(encoding="utf-8").count("So.") // 2
    assert path.stat().st_mode & 0o777 == 0o640


def test_plain_text_grows(tmp_path: Path) -> None:
    """So that a program that follows the file reads each turn once."""
    path = tmp_path / "talk.txt"
    file = TranscriptFile(path)
    with path.open(encoding="utf-8") as reader:
        for number in range(2):
            file.take(structs.replace(TURN, turn=number))
            assert reader.read() == "So.\n"


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    """The file that it leads to gets the text."""
    (tmp_path / "link.srt").symlink_to(tmp_path / "talk.srt")
    TranscriptFile(tmp_path / "link.srt").take(TURN)
    assert (tmp_path / "link.srt").is_symlink()
    assert "So." in (tmp_path / "talk.srt").read_text(encoding="utf-8")


def test_a_folder_that_takes_no_other_file_holds_the_transcript(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file itself is written then, as far as that is allowed."""
    path = tmp_path / "talk.srt"
    path.touch()
    write = Path.write_text

    def refuse_others(self: Path, data: str, encoding: str) -> int:
        if self != path:
            raise PermissionError(errno.EACCES, "Permission denied")
        return write(self, data, encoding)

    monkeypatch.setattr(Path, "write_text", refuse_others)
    TranscriptFile(path).take(TURN)
    assert "So." in path.read_text(encoding="utf-8")


def test_a_full_disk_leaves_the_transcript_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reason is told."""
    path = tmp_path / "talk.srt"
    file = TranscriptFile(path)
    file.take(TURN)
    before = path.read_text(encoding="utf-8")

    def fail(self: Path, data: str, encoding: str) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_text", fail)
    with pytest.raises(StreamerError, match=r"cannot write .*: no space left on device"):
        file.take(structs.replace(TURN, turn=1))
    assert path.read_text(encoding="utf-8") == before


def test_a_file_is_writable_if_its_folder_can_be_made(tmp_path: Path) -> None:
    """Nothing is made; a file in place of a folder is told."""
    (tmp_path / "file").touch()
    check_writable(tmp_path / "a" / "b.txt")
    check_writable(tmp_path / "file")

    assert [each.name for each in tmp_path.iterdir()] == ["file"]
    with pytest.raises(StreamerError, match=rf"cannot write .*b\.txt: {tmp_path}/file is not a folder"):
        check_writable(tmp_path / "file" / "b.txt")


@pytest.mark.skipif(os.geteuid() == 0, reason="root can write everywhere")
def test_a_folder_that_takes_nothing_is_told(tmp_path: Path) -> None:
    """With what may not be written to."""
    tmp_path.chmod(0o500)
    with pytest.raises(StreamerError, match=f"no permission to write to {tmp_path}$"):
        check_writable(tmp_path / "a" / "b.txt")


@pytest.mark.parametrize("path", ["a" * 300, f"{'a' * 300}/b.txt", "loop/b.txt"])
def test_a_path_that_the_system_refuses_is_told(tmp_path: Path, path: str) -> None:
    """By the reason of the system: a name that is too long, links in a circle."""
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(StreamerError, match=r"cannot write .*: (file name too long|too many levels of symbolic links)"):
        check_writable(tmp_path / path)


def test_a_transcript_file_that_cannot_be_written_is_told_at_once(tmp_path: Path) -> None:
    """Before anybody speaks."""
    with pytest.raises(StreamerError, match=r"cannot write .*: is a directory"):
        TranscriptFile(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(StreamerError, match=r"cannot write .*: .*file is not a folder"):
        TranscriptFile(tmp_path / "file" / "talk.txt")
