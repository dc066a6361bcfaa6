"""`streamer transcribe`: transcribes files through the streaming engine into text, JSON or subtitles."""

from __future__ import annotations

import asyncio
import contextlib
import io
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import msgspec

from streamer.audio.files import SoundFile, read_sound, read_sound_file
from streamer.audio.pcm import SAMPLE_RATE
from streamer.build.service import Service
from streamer.cli.output import STANDARD_INPUT, check_writable, chosen_format, output_paths, write_file, written
from streamer.config import Config
from streamer.dialects.skips import Skips
from streamer.errors import DeviceLostError, StreamerError
from streamer.evaluation.playback import play
from streamer.gateway import build_service
from streamer.host.terminal import TerminalCaptions
from streamer.protocol.events import Ack, Event
from streamer.protocol.messages import encode
from streamer.protocol.turns import FinalTurns
from streamer.scheduling.scheduler import running


@dataclass(frozen=True, slots=True, kw_only=True)
class TranscribeOptions:
    """What is transcribed, and how it is written."""

    files: Sequence[Path]
    """Anything `read_sound_file` reads; `-` is standard input."""
    output: Path | None = None
    """A file, or a folder for several files; None: standard output."""
    format: str | None = None
    """txt, json, jsonl (every event as it comes), srt, vtt or ttml; None: by the extension of `output`, else txt."""
    realtime: bool = False
    """Feed audio at the speed of speech; with txt, show live captions."""


def run(config: Config, options: TranscribeOptions, build: Callable[[Config], Service] = build_service) -> int:
    """
    Transcribe files one after the other. A file that fails is told on standard error, and the next one follows.

    Args:
        config: Session defaults and model.
        options: Files and output.
        build: Builds the service.

    Returns:
        Exit code: 0, or 1 if a file failed.

    Raises:
        ConfigError: The transcripts cannot be written where they should be.
        StreamerError: There is no model, recordings cannot be kept, or the device is lost.
    """
    if config.recording.folder:
        check_writable(Path(config.recording.folder, "journal.jsonl"))
    format_ = chosen_format(options.format, options.output)
    paths = output_paths(options.files, options.output, format_)
    return asyncio.run(_run(build(config), config, list(zip(options.files, paths, strict=True)), format_, options))


async def _run(
    service: Service,
    config: Config,
    jobs: Sequence[tuple[Path, Path | None]],
    format_: str,
    options: TranscribeOptions,
) -> int:
    n_failed = 0
    async with running(service.scheduler):
        for file, path in jobs:
            try:
                await _transcribe(service, config, file, path, format_, realtime=options.realtime)
            except DeviceLostError:
                raise
            except StreamerError as error:
                n_failed += 1
                click.echo(f"streamer: {error}", err=True)
        await service.scheduler.finish_recordings()
    return 1 if n_failed else 0


async def _transcribe(
    service: Service, config: Config, file: Path, path: Path | None, format_: str, *, realtime: bool
) -> None:
    """Transcribe one file to a path, or to standard output. What was lost of it is told on standard error."""
    if path is not None:
        check_writable(path)
    sound = await asyncio.to_thread(_read, file)
    warnings, skips = tuple(map(str, sound.notes)), Skips(sound.notes)
    for warning in warnings:
        click.echo(f"streamer: {file}: {warning}", err=True)
    turns = FinalTurns()
    lines: list[str] = []
    captions = TerminalCaptions(sys.stdout) if realtime and format_ == "txt" else None
    options = msgspec.structs.replace(config.session, revise=config.session.revise or True)
    stream = service.scheduler.open(options, session=_name(file), revises_all=True)
    is_quiet = not captions and (path is not None or format_ != "jsonl")
    with _progress(file.name, len(sound.samples) / SAMPLE_RATE, is_shown=is_quiet) as advance:
        async for _, event in play(stream, sound.samples, realtime=realtime):
            advance(event)
            if captions:
                captions.show(event)
            if format_ == "jsonl":
                for told in (*skips.before(event), event):
                    _put_line(encode(told), lines if path else None)
            turns.take(event)
    text = "".join(lines) if format_ == "jsonl" else written(str(file), list(turns), format_, warnings)
    if path is not None:
        write_file(path, text)
    elif is_quiet:
        click.echo(text, nl=False)


def _put_line(line: str, lines: list[str] | None) -> None:
    """Keep a line, or write it at once."""
    if lines is None:
        click.echo(line)
    else:
        lines.append(f"{line}\n")


def _read(file: Path) -> SoundFile:
    if file != STANDARD_INPUT:
        return read_sound_file(file)
    return read_sound(io.BytesIO(sys.stdin.buffer.read()), "standard input")


def _name(file: Path) -> str:
    return "stdin" if file == STANDARD_INPUT else file.stem


@contextlib.contextmanager
def _progress(name: str, duration_s: float, *, is_shown: bool) -> Iterator[Callable[[Event], None]]:
    """A progress bar on standard error, if it is a terminal; yields the function that takes the events of a session."""
    if not is_shown or not sys.stderr.isatty():
        yield lambda _: None
        return
    with click.progressbar(length=max(1, round(duration_s)), label=name, file=sys.stderr) as bar:

        def advance(event: Event) -> None:
            if isinstance(event, Ack):
                bar.update(round(event.stable_s) - bar.pos)

        yield advance
