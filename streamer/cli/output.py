"""Where transcripts of `transcribe` and `mic` are written, and in which format."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

from streamer.errors import ConfigError, StreamerError, reason_of
from streamer.protocol.events import Event, TurnEnd
from streamer.protocol.turns import FinalTurns
from streamer.subtitles.cues import (
    Cue,
    cues_of,
    in_order,
    srt_of,
    to_srt,
    to_ttml,
    to_txt,
    to_vtt,
    ttml_of,
    vtt_of,
)

STANDARD_INPUT = Path("-")
FORMATS = ("txt", "json", "jsonl", "srt", "vtt", "ttml")
SUBTITLES = ("srt", "vtt", "ttml")
"""Formats that are made of cues."""
JOINABLE = ("txt", "jsonl")
"""Formats in which the transcripts of several files may follow one another."""


def chosen_format(asked: str | None, output: Path | None) -> str:
    """The format asked for, otherwise that of the output's extension, otherwise txt."""
    suffix = output.suffix.removeprefix(".").lower() if output else ""
    return asked or (suffix if suffix in FORMATS else "txt")


def output_paths(files: Sequence[Path], output: Path | None, format_: str) -> list[Path | None]:
    """
    The file that each transcript is written to; None: standard output.

    Args:
        files: The recordings.
        output: A file for one recording, a folder for several; a folder that exists takes one as well.
        format_: The extension in a folder; files of the same name get a number.

    Raises:
        ConfigError: Several transcripts cannot share the output, or it is one of the recordings.
    """
    if output is None:
        if len(files) > 1 and format_ not in JOINABLE:
            raise ConfigError(f"several files as {format_} need a file each: name a folder with --output")
        return [None for _ in files]
    if len(files) > 1 and output.exists() and not output.is_dir():
        raise ConfigError(f"--output {output} is a file: expected a folder for {len(files)} transcripts")
    paths = _in_folder(files, output, format_) if len(files) > 1 or output.is_dir() else [output]
    if overwritten := {path.resolve() for path in paths} & {file.resolve() for file in files}:
        raise ConfigError(f"--output would overwrite the recording {overwritten.pop()}: expected another path")
    return list(paths)


def _in_folder(files: Sequence[Path], folder: Path, format_: str) -> list[Path]:
    names: list[str] = []
    for file in files:
        stem = name = "stdin" if file == STANDARD_INPUT else file.stem
        number = 2
        while name in names:
            name, number = f"{stem}-{number}", number + 1
        names.append(name)
    return [folder / f"{name}.{format_}" for name in names]


def written(name: str, turns: Sequence[TurnEnd], format_: str, warnings: Sequence[str] = ()) -> str:
    """
    A transcript as text.

    Args:
        name: Of the recording, for JSON.
        turns: All turns.
        format_: One of `FORMATS`; a transcript as `jsonl` has a line for each turn.
        warnings: What was lost of the recording; told in `json`, where there are any.
    """
    match format_:
        case "srt":
            return to_srt(turns)
        case "vtt":
            return to_vtt(turns)
        case "ttml":
            return to_ttml(turns)
        case "json":
            document = {"file": name, "text": to_txt(turns).strip(), "turns": msgspec.to_builtins(list(turns))}
            document |= {"warnings": list(warnings)} if warnings else {}
            return msgspec.json.format(msgspec.json.encode(document)).decode() + "\n"
        case "jsonl":
            return "".join(f"{msgspec.json.encode(turn).decode()}\n" for turn in turns)
    return to_txt(turns)


def check_writable(path: Path) -> None:
    """
    Check whether a file can be written, and its folder made: to be known before hours of work are lost.

    Raises:
        StreamerError: It cannot.
    """
    with _telling(path), suppress(FileNotFoundError, NotADirectoryError):
        path.stat()  # a name that is too long, a folder that may not be entered
    if os.path.isdir(path):
        raise StreamerError(f"cannot write {path}: is a directory")
    place = next(each for each in (path, *path.absolute().parents) if os.path.exists(each))
    if place != path and not os.path.isdir(place):
        raise StreamerError(f"cannot write {path}: {place} is not a folder")
    if not os.access(place, os.W_OK):
        raise StreamerError(f"cannot write {path}: no permission to write to {place}")


def write_file(path: Path, text: str) -> None:
    """
    Write a file, and make its folder. The file holds what it held, or all of the text, and nothing between.

    Raises:
        StreamerError: The folder or the file cannot be written.
    """
    with _telling(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and not path.is_file():  # a device or a pipe
            path.write_text(text, encoding="utf-8")
        else:
            _replace(path.resolve(), text)


def _replace(path: Path, text: str) -> None:
    path.open("a").close()  # raises where the file may not be written, although its folder may
    beside = path.with_name(f".{path.name}.part")
    try:
        beside.write_text(text, encoding="utf-8")
        shutil.copymode(path, beside)
        beside.replace(path)
    except PermissionError:  # the folder takes no other file
        path.write_text(text, encoding="utf-8")
    finally:
        beside.unlink(missing_ok=True)


@contextmanager
def _telling(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StreamerError(f"cannot write {path}: {reason_of(error)}") from None


class TranscriptFile:
    """
    A file with the turns of a session so far, complete at any time.

    Plain text and JSON lines grow; other formats, and any where a turn is revised, are written anew.

    Args:
        path: The file; its extension says the format.

    Raises:
        StreamerError: The file cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._format = path, chosen_format(None, path)
        self._turns = FinalTurns()
        self._cues: dict[int, list[Cue]] = {}
        """Of each turn, where the format has cues: made once, since that takes milliseconds a turn."""
        check_writable(path)
        write_file(path, self._text())

    def take(self, event: Event) -> None:
        """
        Append a turn that has ended, or change one that was revised; other events are ignored.

        Raises:
            StreamerError: The file cannot be written.
        """
        n_turns = len(self._turns)
        turn = self._turns.take(event)
        if turn is None:
            return
        if self._format in SUBTITLES:
            self._cues[turn.turn] = cues_of(turn)
        if self._format in JOINABLE and len(self._turns) > n_turns:
            with _telling(self._path), self._path.open("a", encoding="utf-8") as file:
                file.write(written("microphone", [turn], self._format))
        else:
            write_file(self._path, self._text())

    def _text(self) -> str:
        turns = list(self._turns)
        cues = in_order(cue for turn in turns for cue in self._cues.get(turn.turn, ()))
        match self._format:
            case "srt":
                return srt_of(cues)
            case "vtt":
                return vtt_of(cues)
            case "ttml":
                return ttml_of(cues, turns[0].language if turns else "")
        return written("microphone", turns, self._format)
