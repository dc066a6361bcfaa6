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
def quiet_log() -> Iterator[None]:
    """The log, which the command line sends elsewhere, is kept away from standard output."""
    with structlog.testing.capture_logs():
        yield


def run(files: list[Path], format_: str, service: ScriptedService | None = None) -> int:
    """Transcribe with the scripted engine, as fast as it goes."""
    built = service or ScriptedService()
    return transcribe.run(CONFIG, files, format_, realtime=False, build=lambda _: built.parts())


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Two turns in one file, one in the other."""
    for name, sound in (("a", [*spoken("b c d f", 1.0), *spoken("g h")]), ("b", spoken(story(30)))):
        soundfile.write(tmp_path / f"{name}.wav", sound, 16_000)
    return [tmp_path / "a.wav", tmp_path / "b.wav"]


def test_text_has_a_line_for_each_turn(files: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    """File after file."""
    assert run(files, "txt") == 0

    assert capsys.readouterr().out == f"b c d f\ng h\n{story(30)}\n"


def test_json_is_a_document_for_each_file(files: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    """With its text, and its turns with words and times."""
    run(files[:1], "json")

    document = json.loads(capsys.readouterr().out)
    assert (document["file"], document["text"]) == (str(files[0]), "b c d f\ng h")
    assert [turn["text"] for turn in document["turns"]] == ["b c d f", "g h"]
    words = document["turns"][0]["words"]
    assert [word["text"] for word in words] == ["b", "c", "d", "f"]
    assert words[1]["start_s"] == pytest.approx(0.3, abs=0.03)


def test_jsonl_writes_events_as_they_come(files: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    """Every event of the protocol, one a line, `bye` last of each file."""
    run(files, "jsonl")

    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [event["type"] for event in events].count("bye") == 2
    assert events[-1]["type"] == "bye"
    assert {"speech", "caption", "turn_end", "ack", "bye"} == {event["type"] for event in events}


@pytest.mark.parametrize(
    ("format_", "beginning"),
    [("srt", "1\n00:00:00,000 --> 00:00:01,"), ("vtt", "WEBVTT\n\n00:00:00.000 --> 00:00:01.")],
)
def test_subtitles_have_the_times_of_the_words(
    files: list[Path], capsys: pytest.CaptureFixture[str], format_: str, beginning: str
) -> None:
    """As SubRip and as WebVTT."""
    run(files[:1], format_)

    out = capsys.readouterr().out
    assert out.startswith(beginning)
    assert "\nb c d f\n" in out


def test_a_file_that_cannot_be_read_is_named(
    files: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before anything is transcribed."""
    (tmp_path / "c.wav").write_text("not sound")

    with pytest.raises(StreamerError, match=r"c\.wav"):
        run([*files, tmp_path / "c.wav"], "txt")
    assert capsys.readouterr().out == ""


def test_a_fault_ends_the_program(files: list[Path]) -> None:
    """A scheduler that fails does not leave the reader waiting."""

    def fault(_: object) -> None:
        raise ZeroDivisionError

    service = ScriptedService()
    service.engine.on_step = fault

    with pytest.raises(ExceptionGroup) as failed:
        run(files, "txt", service)
    assert failed.group_contains(ZeroDivisionError)


def test_a_terminal_shows_how_far_a_file_is(
    files: list[Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On standard error, if that is a terminal; standard output stays as it is."""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    run(files[:1], "txt")

    output = capsys.readouterr()
    assert output.out == "b c d f\ng h\n"
    assert "a.wav" in output.err
    assert "100%" in output.err
