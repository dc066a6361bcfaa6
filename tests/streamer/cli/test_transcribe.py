"""Tests of streamer.cli.transcribe: files in, captions on standard output, by an engine that is never wrong."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import soundfile
import structlog

from streamer.cli import transcribe
from streamer.config import Config
from streamer.errors import StreamerError
from streamer.protocol.options import SessionOptions
from tests.helpers.scripted_engine import ScriptedService, spoken, story

CONFIG = Config(session=SessionOptions(language="en"))


@pytest.fixture(autouse=True)
def scripted(monkeypatch: pytest.MonkeyPatch) -> Iterator[ScriptedService]:
    """The parts that a configuration becomes here; the log, which the command line sends elsewhere, is kept away."""
    service = ScriptedService()
    monkeypatch.setattr(transcribe, "build", lambda _: service.parts())
    with structlog.testing.capture_logs():
        yield service


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Two turns in one file, one in the other."""
    for name, sound in (("a", [*spoken("b c d f", 1.0), *spoken("g h")]), ("b", spoken(story(30)))):
        soundfile.write(tmp_path / f"{name}.wav", sound, 16_000)
    return [tmp_path / "a.wav", tmp_path / "b.wav"]


def test_text(files: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    """A line for each turn, file after file."""
    assert transcribe.run(CONFIG, files, "txt", realtime=False) == 0

    assert capsys.readouterr().out == f"b c d f\ng h\n{story(30)}\n"


def test_json(files: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    """A document for each file: its text, and its turns with words and times."""
    transcribe.run(CONFIG, files[:1], "json", realtime=False)

    document = json.loads(capsys.readouterr().out)
    assert (document["file"], document["text"]) == (str(files[0]), "b c d f\ng h")
    assert [turn["text"] for turn in document["turns"]] == ["b c d f", "g h"]
    words = document["turns"][0]["words"]
    assert [word["text"] for word in words] == ["b", "c", "d", "f"]
    assert words[1]["start_s"] == pytest.approx(0.3, abs=0.03)


def test_events_as_they_come(files: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    """`jsonl` is the protocol: every event, one a line, `bye` last of each file."""
    transcribe.run(CONFIG, files, "jsonl", realtime=False)

    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [event["type"] for event in events].count("bye") == 2
    assert events[-1]["type"] == "bye"
    assert {"speech", "caption", "turn_end", "ack", "bye"} == {event["type"] for event in events}


@pytest.mark.parametrize(
    ("format_", "beginning"),
    [("srt", "1\n00:00:00,000 --> 00:00:01,"), ("vtt", "WEBVTT\n\n00:00:00.000 --> 00:00:01.")],
)
def test_subtitles(files: list[Path], capsys: pytest.CaptureFixture[str], format_: str, beginning: str) -> None:
    """Cues with the times of the words."""
    transcribe.run(CONFIG, files[:1], format_, realtime=False)

    out = capsys.readouterr().out
    assert out.startswith(beginning)
    assert "\nb c d f\n" in out


def test_a_file_that_cannot_be_read(files: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Named before anything is transcribed."""
    (tmp_path / "c.wav").write_text("not sound")

    with pytest.raises(StreamerError, match=r"c\.wav"):
        transcribe.run(CONFIG, [*files, tmp_path / "c.wav"], "txt", realtime=False)
    assert capsys.readouterr().out == ""


def test_a_fault_ends_the_program(files: list[Path], scripted: ScriptedService) -> None:
    """A scheduler that fails does not leave the reader waiting."""

    def fault(_: object) -> None:
        raise ZeroDivisionError

    scripted.engine.on_step = fault

    with pytest.raises(ExceptionGroup) as failed:
        transcribe.run(CONFIG, files, "txt", realtime=False)
    assert failed.group_contains(ZeroDivisionError)


def test_a_bar_on_a_terminal(
    files: list[Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Standard error shows how far a file is, where somebody looks; standard output stays as it is."""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    transcribe.run(CONFIG, files[:1], "txt", realtime=False)

    output = capsys.readouterr()
    assert output.out == "b c d f\ng h\n"
    assert "a.wav" in output.err
    assert "100%" in output.err
