"""Tests of streamer.cli.transcribe: files in, captions on standard output, by an engine that is never wrong."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import soundfile
import structlog

from streamer.cli import transcribe
from streamer.cli.output import FORMATS
from streamer.cli.transcribe import TranscribeOptions
from streamer.config import Config, RecordingConfig
from streamer.errors import StreamerError
from streamer.protocol.options import SessionOptions
from tests.helpers.scripted_engine import ScriptedEngine, ScriptedService, reviser, spoken, story

CONFIG = Config(session=SessionOptions(language="en", endpoint_ms=500))


@pytest.fixture(autouse=True)
def quiet_log() -> Iterator[None]:
    """The log, which the command line sends elsewhere, is kept away from standard output."""
    with structlog.testing.capture_logs():
        yield


def run(
    files: list[Path], format_: str | None, service: ScriptedService | None = None, output: Path | None = None
) -> int:
    """Transcribe with the scripted engine, as fast as it goes."""
    built = service or ScriptedService()
    options = TranscribeOptions(files=files, format=format_, output=output)
    return transcribe.run(CONFIG, options, build=lambda _: built.parts())


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


@pytest.mark.parametrize("format_", ["txt", "json"])
def test_a_file_has_its_revised_text(files: list[Path], capsys: pytest.CaptureFixture[str], format_: str) -> None:
    """Every turn of it is decoded once more, whatever the configuration says."""
    assert run(files[:1], format_, ScriptedService(revisers=[reviser(ScriptedEngine())])) == 0

    written = capsys.readouterr().out
    text = json.loads(written)["text"] if format_ == "json" else written.strip()
    assert text == "c c d f\ng h"


def test_jsonl_tells_a_revision_as_an_event(files: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    """Behind the end of its turn, which keeps what was said live."""
    run(files[:1], "jsonl", ScriptedService(revisers=[reviser(ScriptedEngine())]))

    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    told = [(event["type"], event["text"]) for event in events if event["type"].startswith("turn")]
    assert sorted(told) == [("turn_end", "b c d f"), ("turn_end", "g h"), ("turn_revised", "c c d f")]


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


def test_a_bad_file_does_not_stop_the_rest(
    files: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each failure is a line, and the exit code is 1 at the end."""
    (tmp_path / "c.wav").write_text("not sound")

    assert run([tmp_path / "c.wav", files[0], tmp_path / "d.wav", tmp_path, files[1]], "txt") == 1

    output = capsys.readouterr()
    assert output.out == f"b c d f\ng h\n{story(30)}\n"
    failures = [line for line in output.err.splitlines() if line.startswith("streamer: ")]
    assert [line.split(":")[1].strip() for line in failures] == [
        str(tmp_path / "c.wav"),
        str(tmp_path / "d.wav"),
        str(tmp_path),
    ]


@pytest.mark.parametrize("format_", FORMATS)
def test_several_files_are_written_one_each(files: list[Path], tmp_path: Path, format_: str) -> None:
    """In a folder that is made, each as it would be alone."""
    assert run(files, format_, output=tmp_path / "out" / "deep") == 0
    for file in files:
        assert run([file], format_, output=tmp_path / "alone") == 0
        alone = (tmp_path / "alone").read_text(encoding="utf-8")
        assert (tmp_path / "out" / "deep" / f"{file.stem}.{format_}").read_text(encoding="utf-8") == alone
        assert alone
    assert len(list((tmp_path / "out" / "deep").iterdir())) == 2


def test_the_extension_of_the_output_is_its_format(files: list[Path], tmp_path: Path) -> None:
    """Where none is asked for."""
    run(files[:1], None, output=tmp_path / "a.vtt")
    assert (tmp_path / "a.vtt").read_text().startswith("WEBVTT")


def test_an_output_that_cannot_be_written_does_not_stop_the_rest(
    files: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is told like a recording that cannot be read."""
    (tmp_path / "out" / "a.txt").mkdir(parents=True)

    assert run(files, None, output=tmp_path / "out") == 1

    assert "a.txt: is a directory" in capsys.readouterr().err
    assert (tmp_path / "out" / "b.txt").read_text() == f"{story(30)}\n"


def test_a_folder_that_cannot_be_made_is_told_before_the_work(files: list[Path], tmp_path: Path) -> None:
    """Of transcripts, and of recordings."""
    service = ScriptedService()
    assert run(files[:1], None, service, output=files[1] / "a.txt") == 1
    assert not service.engine.batches
    config = Config(recording=RecordingConfig(folder=str(files[0] / "kept")))
    with pytest.raises(StreamerError, match=rf"cannot write .*: {files[0]} is not a folder"):
        transcribe.run(config, TranscribeOptions(files=files), build=lambda _: pytest.fail("a model was loaded"))


def test_standard_input_is_a_file(
    files: list[Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the name of a hyphen; what is no sound is told."""
    for content, code, out in ((files[0].read_bytes(), 0, "b c d f\ng h\n"), (b"not sound", 1, "")):
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(content)))
        assert run([Path("-")], "txt") == code
        assert capsys.readouterr().out == out


@pytest.mark.parametrize("format_", ["txt", "json", "jsonl"])
def test_what_was_lost_is_told(
    files: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], format_: str
) -> None:
    """On standard error, in JSON and among the events; everything else is transcribed, and nothing failed."""
    sound, _ = soundfile.read(files[0], dtype="float32")
    sound[-1] = float("nan")
    soundfile.write(tmp_path / "c.wav", sound, 16_000, subtype="FLOAT")

    assert run([tmp_path / "c.wav"], format_) == 0

    output = capsys.readouterr()
    [line] = [line for line in output.err.splitlines() if line.startswith("streamer: ")]
    assert line.startswith(f"streamer: {tmp_path}/c.wav: at ")
    assert line.endswith("s: sound is not made of numbers: silence stands for it")
    if format_ == "json":
        assert json.loads(output.out)["warnings"] == [line.partition("c.wav: ")[2]]
    elif format_ == "jsonl":
        events = [json.loads(text)["type"] for text in output.out.splitlines()]
        assert events.count("skipped") == 1
        assert events[-1] == "bye"
    else:
        assert output.out == "b c d f\ng h\n"


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
