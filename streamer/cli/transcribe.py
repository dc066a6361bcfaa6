"""`streamer transcribe`: transcribes files through the streaming engine into text, JSON or subtitles."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import click
import msgspec
import numpy as np
from numpy.typing import NDArray

from streamer.audio.files import read_audio
from streamer.audio.pcm import SAMPLE_RATE
from streamer.build import Service, build
from streamer.config import Config
from streamer.evaluation.playback import play
from streamer.host.terminal import TerminalCaptions
from streamer.protocol.events import Ack, Event, TurnEnd
from streamer.protocol.messages import encode
from streamer.protocol.options import SessionOptions
from streamer.scheduling.scheduler import running
from streamer.subtitles.cues import to_srt, to_ttml, to_txt, to_vtt


def run(
    config: Config,
    files: Sequence[Path],
    format_: str,
    realtime: bool,
    build: Callable[[Config], Service] = build,
) -> int:
    """
    Transcribe files one after the other to standard output.

    Args:
        config: Session defaults and model.
        files: Anything `read_audio` reads; all files are read before the first one is transcribed.
        format_: txt, json, jsonl, srt, vtt or ttml. `jsonl` writes every event as it comes.
        realtime: Feed audio at the speed of speech; with txt, show live captions.
        build: Builds the service.

    Returns:
        Exit code 0.

    Raises:
        StreamerError: There is no model, or a file cannot be read.
    """
    recordings = [(path, read_audio(path)) for path in files]
    asyncio.run(_run(build(config), config.session, recordings, format_, realtime))
    return 0


async def _run(
    service: Service,
    options: SessionOptions,
    recordings: Sequence[tuple[Path, NDArray[np.float32]]],
    format_: str,
    realtime: bool,
) -> None:
    async with running(service.scheduler):
        for path, samples in recordings:
            turns = []
            captions = TerminalCaptions(sys.stdout) if realtime and format_ == "txt" else None
            stream = service.scheduler.open(options, session=path.stem)
            is_quiet = not captions and format_ != "jsonl"
            with _progress(path.name, len(samples) / SAMPLE_RATE, is_shown=is_quiet) as advance:
                async for _, event in play(stream, samples, realtime=realtime):
                    advance(event)
                    if captions:
                        captions.show(event)
                    elif format_ == "jsonl":
                        click.echo(encode(event))
                    if isinstance(event, TurnEnd):
                        turns.append(event)
            if is_quiet:
                click.echo(_written(path, turns, format_), nl=False)
        await service.scheduler.finish_recordings()


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


def _written(path: Path, turns: Sequence[TurnEnd], format_: str) -> str:
    match format_:
        case "srt":
            return to_srt(turns)
        case "vtt":
            return to_vtt(turns)
        case "ttml":
            return to_ttml(turns)
        case "json":
            document = {"file": str(path), "text": to_txt(turns).strip(), "turns": msgspec.to_builtins(list(turns))}
            return msgspec.json.format(msgspec.json.encode(document)).decode() + "\n"
    return to_txt(turns)
