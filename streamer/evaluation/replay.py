"""`streamer replay`: a recorded session once more, and where each of its words came from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import msgspec
import numpy as np
import torch
from torch import Tensor

from streamer import weights
from streamer.audio.mel import FrameStream, MelSpectrogram
from streamer.errors import AudioFormatError
from streamer.protocol.events import Caption, Event, TurnEnd, Word
from streamer.scheduling.recording import AUDIO, JOURNAL
from streamer.session.journal import VERSION, Answer, AnyEntry, Ask, Change, End, Failed, Flush, Hear, Opened, Said
from streamer.session.session import Session, Step
from streamer.text.tokenizer import Tokenizer

BLOCK = 160_000
"""Samples turned into frames at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WordOrigin:
    """Where one final word came from."""

    word: Word
    first_step: int
    """The step that said it first, in its place, and was not taken back since; counted from 1."""
    first_s: float
    """Sound heard by then."""
    stable_step: int
    stable_s: float
    reason: str
    """Why it became certain."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """One turn as it came about."""

    turn: TurnEnd
    origins: tuple[WordOrigin, ...]


def run(folder: Path) -> int:
    """
    Replay a recording and print the origin of every word; 0 when the session said exactly what it said then.

    Raises:
        AudioFormatError: The folder holds no recording.
        ModelNotFoundError, CheckpointError: The vocabulary of its model cannot be had.
    """
    entries = read_journal(folder)
    opened = entries[0]
    assert isinstance(opened, Opened)
    tokenizer = weights.load_tokenizer(weights.load(weights.resolve(opened.model)))
    replay = Replay(opened, tokenizer, read_frames(folder, opened.n_mels))
    for entry in entries[1:]:
        replay.take(entry)
    for replayed in replay.turns:
        click.echo(_turn_text(replayed))
    if replay.n_differences:
        click.echo(f"differs from the recording: {replay.n_differences} times, first {replay.first_difference}")
        return 1
    click.echo(f"same as recorded: {len(replay.turns)} turns, {replay.n_steps} steps")
    return 0


def read_journal(folder: Path) -> list[AnyEntry]:
    """
    The entries of a recording, `Opened` first; a line cut off at the end of a recording that stopped is left out.

    Raises:
        AudioFormatError: It is none.
    """
    path = folder / JOURNAL
    if not path.is_file():
        raise AudioFormatError(f"{folder} is no recording: expected {AUDIO} and {JOURNAL} in it")
    lines = path.read_bytes().split(b"\n")[:-1]
    decoder = msgspec.json.Decoder(AnyEntry)
    try:
        entries = [decoder.decode(line) for line in lines]
    except msgspec.DecodeError as error:
        raise AudioFormatError(f"{path} is no journal of this version ({VERSION}): {error}") from None
    if not entries or not isinstance(entries[0], Opened) or entries[0].version != VERSION:
        raise AudioFormatError(f"{path} is no journal of this version ({VERSION})")
    return entries


def read_frames(folder: Path, n_mels: int) -> Iterator[Tensor]:
    """All mel frames of a recording, (n_mels,) each, in order."""
    samples = np.fromfile(folder / AUDIO, dtype="<f4")
    spectrogram, stream = MelSpectrogram(n_mels), FrameStream()
    for block in torch.from_numpy(samples).split(BLOCK):
        for frames in stream.push(block):
            yield from spectrogram(frames)


class Replay:
    """
    Gives a fresh session what the recorded one was given.

    Args:
        opened: How it began.
        tokenizer: Of its model.
        frames: Mel frames of its sound.
    """

    def __init__(self, opened: Opened, tokenizer: Tokenizer, frames: Iterator[Tensor]) -> None:
        self._session = Session(
            opened.session,
            opened.options,
            opened.window,
            tokenizer,
            opened.n_mels,
            offset_s=opened.offset_s,
            context=opened.context,
        )
        self._frames, self._n_mels = frames, opened.n_mels
        self._step: Step | None = None
        self._events: tuple[Event, ...] = ()
        self._origins = Origins()
        self.n_steps = 0
        self.n_differences = 0
        self.first_difference = ""

    @property
    def turns(self) -> list[Replayed]:
        """The turns that ended, each with its words."""
        return self._origins.turns

    def take(self, entry: AnyEntry) -> None:
        """Repeat one entry; a `Said` is compared with what was said now."""
        if isinstance(entry, Said):
            self._compare(entry.events)
            self._events = ()
            return
        self._compare(())
        self._events = tuple(self._repeat(entry))
        self._origins.watch(self._events, self.n_steps, self._session.received_s)

    def _repeat(self, entry: AnyEntry) -> Sequence[Event]:
        session = self._session
        match entry:
            case Hear(n_frames=n, voice=voice):
                frames = [next(self._frames) for _ in range(n)]
                return session.hear(torch.stack(frames) if frames else torch.empty(0, self._n_mels), voice)
            case Ask():
                self._step = session.next_step()
            case Answer(result=result):
                assert self._step is not None
                self.n_steps += 1
                return session.apply(self._step, result)
            case Failed():
                session.failed()
            case Flush(id=flush_id):
                return session.flush(flush_id)
            case Change(update=update):
                session.update(update)
            case End(audio_s=audio_s, goes_on=goes_on):
                return session.end(audio_s, goes_on=goes_on)
        return ()

    def _compare(self, recorded: Sequence[Event]) -> None:
        if self._events != tuple(recorded):
            self.n_differences += 1
            self.first_difference = self.first_difference or (
                f"at {self._session.received_s:.2f} s: said {list(self._events)}, recorded {list(recorded)}"
            )


class Origins:
    """Follows the words of each turn from first sight to the end. Pure."""

    def __init__(self) -> None:
        self.turns: list[Replayed] = []
        self._seen: list[tuple[str, int, float]] = []
        self._stable: list[tuple[int, float]] = []

    def watch(self, events: Sequence[Event], n_steps: int, now_s: float) -> None:
        """Take what was said after so many steps."""
        for event in events:
            match event:
                case Caption(words=tuple(words)):
                    self._see(words, n_steps, now_s)
                case TurnEnd(words=tuple(words)):
                    n_agreed = len(self._stable)
                    self._see(words, n_steps, now_s)
                    origins = [self._origin(i, word, n_agreed, event.reason) for i, word in enumerate(words)]
                    self.turns.append(Replayed(turn=event, origins=tuple(origins)))
                    self._seen, self._stable = [], []

    def _see(self, words: Sequence[Word], n_steps: int, now_s: float) -> None:
        kept = [
            old if old[0] == _key(word) else (_key(word), n_steps, now_s)
            for old, word in zip(self._seen, words, strict=False)
        ]
        self._seen = [*kept, *((_key(word), n_steps, now_s) for word in words[len(kept) :])]
        n_stable = sum(word.stable for word in words)
        self._stable += [(n_steps, now_s)] * (n_stable - len(self._stable))

    def _origin(self, i: int, word: Word, n_agreed: int, reason: str) -> WordOrigin:
        _, first_step, first_s = self._seen[i]
        stable_step, stable_s = self._stable[i]
        agreed = f"{stable_step - first_step + 1} steps agreed"
        return WordOrigin(
            word=word,
            first_step=first_step,
            first_s=first_s,
            stable_step=stable_step,
            stable_s=stable_s,
            reason=agreed if i < n_agreed else f"end of turn ({reason})",
        )


def _key(word: Word) -> str:
    return "".join(c for c in word.text.casefold() if c.isalnum())


def _turn_text(replayed: Replayed) -> str:
    turn = replayed.turn
    lines = [f"turn {turn.turn}, {turn.start_s:.2f} to {turn.end_s:.2f} s, {turn.language}, {turn.reason}: {turn.text}"]
    lines += [
        f"  {o.word.start_s:7.2f} s  {o.word.text:<20} said by step {o.first_step} at {o.first_s:.2f} s, "
        f"stable by step {o.stable_step} at {o.stable_s:.2f} s: {o.reason}"
        for o in replayed.origins
    ]
    return "\n".join(lines)
