"""`streamer replay`: repeats a recorded session without its engine, and shows where each of its words came from."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

import click
import msgspec
import numpy as np
import torch
from torch import Tensor

from streamer import weights
from streamer.audio.mel import FrameStream, MelSpectrogram
from streamer.errors import AudioFormatError, reason_of
from streamer.evaluation.word_origins import Moment, OriginTracker, TurnOrigins
from streamer.protocol.events import Event
from streamer.scheduling.recording import AUDIO, JOURNAL
from streamer.session.journal import (
    VERSION,
    Answer,
    AnyEntry,
    Ask,
    Change,
    EndEntry,
    Failed,
    FlushEntry,
    Frames,
    Opened,
    Revised,
    Said,
)
from streamer.session.session import Session, Step
from streamer.text.tokenizer import Tokenizer

BLOCK = 160_000
"""Samples that are turned into mel frames at once."""


def run(folder: Path) -> int:
    """
    Replay a recording and print the origin of every word.

    Returns:
        Exit code: 0 if every event is the same as recorded, else 1.

    Raises:
        AudioFormatError: The folder holds no recording.
        ModelNotFoundError, CheckpointError: The vocabulary of the recorded model is not on this machine.
    """
    entries = read_journal(folder)
    opened = entries[0]
    assert isinstance(opened, Opened)
    tokenizer = weights.load_tokenizer(weights.load(weights.resolve(opened.model)))
    replay = Replay(opened, tokenizer, read_frames(folder, opened.n_mels))
    for entry in entries[1:]:
        replay.take(entry)
    for turn in replay.turns:
        click.echo(str(turn))
    if replay.n_differences:
        click.echo(f"differs from the recording: {replay.n_differences} times, first {replay.first_difference}")
        return 1
    click.echo(f"same as recorded: {len(replay.turns)} turns, {replay.n_steps} steps")
    return 0


def read_journal(folder: Path) -> list[AnyEntry]:
    """
    The entries of a recording, `Opened` first. A last line that was not written whole is left out.

    Raises:
        AudioFormatError: The folder holds no recording, or one of another version.
    """
    path = folder / JOURNAL
    if not path.is_file():
        inside = sorted(str(each.parent) for each in folder.glob(f"*/{JOURNAL}"))
        which = f", as of {inside[-1]}" if inside else ""
        raise AudioFormatError(f"{folder} is no recording: expected {AUDIO} and {JOURNAL} in it{which}")
    lines = path.read_bytes().split(b"\n")[:-1]
    decoder = msgspec.json.Decoder(AnyEntry)
    try:
        entries = [decoder.decode(line) for line in lines]
    except (ValueError, RecursionError) as error:  # msgspec's own, and those of bytes that are no UTF-8
        raise AudioFormatError(f"{path} is no journal of this version ({VERSION}): {error}") from None
    if not entries or not isinstance(entries[0], Opened) or entries[0].version != VERSION:
        raise AudioFormatError(f"{path} is no journal of this version ({VERSION})")
    return entries


def read_frames(folder: Path, n_mels: int) -> Iterator[Tensor]:
    """
    The mel frames of a recording, (n_mels,) each, in order.

    Raises:
        AudioFormatError: Its audio cannot be read.
    """
    try:
        samples = np.fromfile(folder / AUDIO, dtype="<f4")
    except OSError as error:
        raise AudioFormatError(f"cannot read {folder / AUDIO}: {reason_of(error)}") from None
    spectrogram, stream = MelSpectrogram(n_mels), FrameStream()
    for block in torch.from_numpy(samples).split(BLOCK):
        for frames in stream.push(block):
            yield from spectrogram(frames)


class Replay:
    """
    Gives a new session what the recorded one was given, and compares the events of both.

    Args:
        opened: How the recorded session was opened.
        tokenizer: Of its model.
        frames: Mel frames of its audio, (n_mels,) each.
    """

    def __init__(self, opened: Opened, tokenizer: Tokenizer, frames: Iterator[Tensor]) -> None:
        self._session = Session(opened.spec(tokenizer))
        self._frames, self._n_mels = frames, opened.n_mels
        self._step: Step | None = None
        self._events: tuple[Event, ...] = ()
        self._origins = OriginTracker()
        self.n_steps = 0
        self.n_differences = 0
        self.first_difference = ""

    @property
    def turns(self) -> list[TurnOrigins]:
        """The turns that ended, each with the origins of its words."""
        return self._origins.turns

    def take(self, entry: AnyEntry) -> None:
        """
        Repeat one entry; the events of a `Said` are compared with those of this session.

        Raises:
            AudioFormatError: The audio ends before the journal does.
        """
        if isinstance(entry, Said):
            self._compare(entry.events)
            self._events = ()
            return
        self._compare(())
        self._events = tuple(self._repeat(entry))
        self._origins.see(self._events, Moment(self.n_steps, self._session.received_s))

    def _repeat(self, entry: AnyEntry) -> Sequence[Event]:
        session = self._session
        match entry:
            case Frames(n_frames=n, voice=voice):
                frames = list(itertools.islice(self._frames, n))
                if len(frames) < n:
                    raise AudioFormatError(f"the recording is not whole: {AUDIO} ends before {JOURNAL} does")
                return session.push_frames(torch.stack(frames) if frames else torch.empty(0, self._n_mels), voice)
            case Ask():
                self._step = session.next_step()
            case Answer(result=result):
                assert self._step is not None
                self.n_steps += 1
                return session.apply(self._step, result)
            case Failed():
                session.cancel_step()
            case FlushEntry(id=flush_id):
                return session.flush(flush_id)
            case Revised(turn=turn, event=event):
                session.take_revisions()
                return session.revised(turn, event)
            case Change(update=update):
                session.update(update)
            case EndEntry(audio_s=audio_s, continues_elsewhere=continues_elsewhere):
                return session.end(audio_s, continues_elsewhere=continues_elsewhere)
        return ()

    def _compare(self, recorded: Sequence[Event]) -> None:
        if self._events != tuple(recorded):
            self.n_differences += 1
            self.first_difference = self.first_difference or (
                f"at {self._session.received_s:.2f} s: said {list(self._events)}, recorded {list(recorded)}"
            )
