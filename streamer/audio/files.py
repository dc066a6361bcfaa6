"""
Decode audio files and uploads to mono float32 samples at 16 kHz, block by block: memory does not grow with length.

A file is decoded twice: a survey counts how long its sound is, whatever headers say, what was lost, and which tracks
and channels sound; then its samples are decoded again, and mixed by what the survey found. FFmpeg (extra `codecs`)
reads every container and passes over damage; without it libsndfile reads wav, flac, ogg, mp3 and more.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from streamer.audio.channels import LevelMeter, Levels, choose_mix, choose_track, sounds
from streamer.audio.ffmpeg_reader import FfmpegReader
from streamer.audio.mending import Recording, recordings
from streamer.audio.mixer import MonoSignal
from streamer.audio.notes import Note
from streamer.audio.parts import Part
from streamer.audio.pcm import SAMPLE_RATE, Samples, bounded
from streamer.audio.reader import Block, Reader, joined
from streamer.audio.sample_range import RangeMeter
from streamer.audio.sndfile_reader import SndfileReader
from streamer.errors import AudioFormatError, reason_of

PROGRESS_S = 10.0
"""Decoded sound after which a survey tells that it goes on, seconds."""
MISSING_S, MISSING_SHARE = 0.2, 0.01
"""A recording that is shorter than announced by more than this is told: codecs round and trim."""
MIN_CANCELLED_S = 0.5
"""Sound in which channels cancel each other before it is told, seconds."""
MAX_TIMES_MISSING = 10
"""A header that announces so many times more was wrong from the beginning, rather than that a file was cut."""

OpenReader = Callable[[IO[bytes], str], Reader]
READERS: tuple[OpenReader, ...] = (FfmpegReader, SndfileReader)
"""In the order in which they are tried."""


@dataclass(frozen=True, slots=True)
class PartSurvey:
    """What was found of one recording in a file."""

    open: OpenReader
    """Opens the reader that found sound."""
    track: int
    """The track that is transcribed."""
    levels: Mapping[int, Levels]
    """Of its channels, by their number."""
    full_scale: int
    """What of its samples counts as 1."""
    duration_s: float
    notes: tuple[Note, ...]


@dataclass(frozen=True, slots=True)
class Survey:
    """What was found of a file."""

    parts: tuple[PartSurvey | None, ...]
    """For each of `mending.recordings`; None: no sound."""
    duration_s: float
    """Sound that can be decoded, seconds; counting ended soon after the longest that was wanted."""
    notes: tuple[Note, ...]
    """What was lost, and which channels were chosen."""


@dataclass(frozen=True, slots=True)
class AudioFile:
    """An open recording. The caller closes it, and the file object that it was opened from."""

    duration_s: float
    """Of the sound that can be decoded, as counted, seconds."""
    notes: tuple[Note, ...]
    """What was lost, and which channels were chosen."""
    blocks: Iterator[Samples]
    """Samples (n,), mono at 16 kHz, about a second at a time."""
    close: Callable[[], None]
    """Releases the decoder."""


@dataclass(frozen=True, slots=True)
class SoundFile:
    """A whole decoded file."""

    samples: Samples
    """(n,), mono at 16 kHz."""
    notes: tuple[Note, ...]


def open_audio(
    file: IO[bytes], name: str, max_s: float = math.inf, progress: Callable[[], None] = lambda: None
) -> AudioFile:
    """
    Open a recording: decode it once to count, so that it can be decoded again.

    Args:
        file: Its bytes; must be seekable.
        name: For error messages.
        max_s: Sound after which counting ends, seconds.
        progress: As for `survey`.

    Raises:
        AudioFormatError: There is no sound in it that can be decoded on this machine.
    """
    surveyed = survey(file, name, max_s, progress)
    blocks = decoded(file, name, surveyed)
    return AudioFile(surveyed.duration_s, surveyed.notes, blocks, blocks.close)


def survey(file: IO[bytes], name: str, max_s: float = math.inf, progress: Callable[[], None] = lambda: None) -> Survey:
    """
    Decode a whole file without keeping its samples.

    Args:
        file: Its bytes; must be seekable.
        name: For error messages.
        max_s: Sound after which counting ends, seconds.
        progress: Called after every PROGRESS_S seconds of decoded sound.

    Raises:
        AudioFormatError: There is no sound in it that can be decoded on this machine.
    """
    found: list[PartSurvey | None] = []
    duration_s, problem = 0.0, AudioFormatError(f"{name}: no audio that can be decoded")
    for part in recordings(file):
        try:
            found.append(_survey_part(part, name, max_s - duration_s, progress))
        except AudioFormatError as error:
            problem = problem if found else error
            found.append(None)
        duration_s += found[-1].duration_s if found[-1] else 0.0
        if duration_s > max_s:
            break
    if duration_s == 0:
        raise problem
    return Survey(tuple(found), duration_s, tuple(_notes(found)))


def decoded(file: IO[bytes], name: str, surveyed: Survey) -> Generator[Samples, None, None]:
    """
    Samples of a file that was surveyed: (n,), mono at 16 kHz, about a second at a time.

    Args:
        file: Its bytes, unchanged.
        name: For error messages.
        surveyed: What the survey found.
    """
    for part, found in zip(recordings(file), surveyed.parts, strict=False):
        if found is not None:
            yield from _in_seconds(_mono(part.file, name, found))


def read_sound(file: IO[bytes], name: str) -> SoundFile:
    """
    Read a whole file.

    Args:
        file: Its bytes; must be seekable.
        name: For error messages.

    Raises:
        AudioFormatError: There is no sound in it that can be decoded on this machine.
    """
    surveyed = survey(file, name)
    blocks = [np.zeros(0, np.float32), *decoded(file, name, surveyed)]  # a sample at a high rate becomes none
    return SoundFile(np.concatenate(blocks), surveyed.notes)


def read_sound_file(path: Path) -> SoundFile:
    """
    Read a whole file.

    Raises:
        AudioFormatError: There is no such file, it cannot be read, or no sound in it can be decoded on this machine.
    """
    try:
        with path.open("rb") as file:
            return read_sound(file, str(path))
    except FileNotFoundError:
        raise AudioFormatError(f"{path}: no such file") from None
    except OSError as error:
        raise AudioFormatError(f"{path}: cannot be read: {reason_of(error)}") from None


def read_audio(path: Path) -> Samples:
    """
    Read a whole audio file as mono samples at 16 kHz, (n,).

    Raises:
        AudioFormatError: There is no such file, or no sound in it that can be decoded on this machine.
    """
    return read_sound_file(path).samples


def _survey_part(recording: Recording, name: str, max_s: float, progress: Callable[[], None]) -> PartSurvey:
    """The survey by the first reader that finds sound. Raises AudioFormatError: none does."""
    first: AudioFormatError | None = None
    for open_reader in READERS:
        recording.file.seek(0)
        try:
            return _survey_by(open_reader, recording, name, max_s, progress)
        except AudioFormatError as error:
            first = first or error
    assert first is not None
    raise first


def _survey_by(
    open_reader: OpenReader, recording: Recording, name: str, max_s: float, progress: Callable[[], None]
) -> PartSurvey:
    with contextlib.closing(open_reader(recording.file, name)) as reader:
        meters = _measured(reader, max_s, progress)
        tracks = [[meter.levels() for meter in meters if meter.track == n] for n in range(len(reader.tracks))]
        number = choose_track(tracks)
        if not reader.tracks[number].decoded_s:
            raise AudioFormatError(f"{name}: no audio that can be decoded ({_reason(reader)})")
        chosen = [meter for meter in meters if meter.track == number]
        full_scale = max(meter.range.full_scale for meter in chosen)
        if full_scale > 1:  # what was measured of the channels was clipped
            levels, told = dict[int, Levels](), _scaled(full_scale)
        else:
            levels, told = {meter.n_channels: meter.levels() for meter in chosen}, _mixed(chosen)
        notes = (*_lost(reader, number, recording.part), *_chosen(number, tracks), *told)
        return PartSurvey(open_reader, number, levels, full_scale, reader.tracks[number].decoded_s, notes)


@dataclass(slots=True)
class _TrackMeter:
    """Levels of one layout of one track."""

    track: int
    n_channels: int
    speakers: tuple[str, ...]
    meter: LevelMeter
    range: RangeMeter

    def add(self, samples: Samples) -> None:
        self.meter.add(bounded(samples))
        self.range.add(samples)

    def levels(self) -> Levels:
        return self.meter.levels()


def _measured(reader: Reader, max_s: float, progress: Callable[[], None]) -> list[_TrackMeter]:
    """Read everything, up to a length in seconds, and measure each track."""
    meters: dict[tuple[int, int], _TrackMeter] = {}
    told_s = 0.0
    for block in joined(reader.blocks()):
        n_channels = block.samples.shape[1]
        key = block.track, n_channels
        if key not in meters:
            meters[key] = _TrackMeter(*key, block.speakers, LevelMeter(n_channels, block.rate), RangeMeter(block.rate))
        meters[key].add(block.samples)
        decoded_s = reader.tracks[block.track].decoded_s
        if decoded_s >= told_s + PROGRESS_S:
            told_s = decoded_s
            progress()
        if decoded_s > max_s:
            break
    return list(meters.values())


def _chosen(number: int, tracks: Sequence[Sequence[Levels]]) -> Iterator[Note]:
    """What is to be told of the other tracks."""
    if number:
        yield Note(f"track {number + 1} of {len(tracks)} is transcribed: those before it hold no speech")
    others = [str(n) for n, layouts in enumerate(tracks, 1) if n != number + 1 and sounds(layouts)]
    if others:
        yield Note(f"track {number + 1} of {len(tracks)} is transcribed, not what sounds in {', '.join(others)}")


def _mixed(meters: Iterable[_TrackMeter]) -> Iterator[Note]:
    """What is to be told of the channels of the track that is transcribed."""
    for meter in meters:
        mix = choose_mix(meter.levels(), meter.speakers)
        if mix.about:
            yield Note(mix.about)
        if meter.meter.cancelled_s >= MIN_CANCELLED_S and not mix.about:
            amount = f"{meter.meter.cancelled_s:.1f} s"
            yield Note(f"in {amount} of it the channels are out of phase: there some are turned over")


def _scaled(full_scale: int) -> Iterator[Note]:
    """What is to be told of the range of the samples."""
    yield Note(f"its samples are floats in the range of integers, not of -1 to 1: divided by {full_scale}")


def _reason(reader: Reader) -> str:
    return next((str(note) for track in reader.tracks for note in track.losses.notes()), "it holds no sound")


def _lost(reader: Reader, number: int, part: Part) -> Iterator[Note]:
    track = reader.tracks[number]
    if part.lacks_head:
        yield Note("the file lacks its header: sound before this may be lost", 0.0)
    yield from track.losses.notes()
    announced_s = max(reader.announced_s(number) or 0.0, part.announced * track.decoded_s, part.announced_s or 0.0)
    is_likely = announced_s < MAX_TIMES_MISSING * track.decoded_s
    if is_likely and announced_s - track.decoded_s > max(MISSING_S, MISSING_SHARE * announced_s):
        text = f"its header announces {announced_s:.1f} s of sound, of which {track.decoded_s:.1f} s could be decoded"
        yield Note(text, track.decoded_s)
    elif part.is_cut:
        yield Note("the file breaks off: what followed is lost", track.decoded_s)


def _notes(parts: list[PartSurvey | None]) -> Iterator[Note]:
    """Notes of all parts, at times of the whole file."""
    offset_s = 0.0
    for number, part in enumerate(parts, 1):
        if part is None:
            yield Note(f"recording {number} of {len(parts)} in this file could not be decoded", offset_s)
            continue
        for note in part.notes:
            yield note if note.at_s is None else Note(note.text, note.at_s + offset_s)
        offset_s += part.duration_s


def _mono(file: IO[bytes], name: str, found: PartSurvey) -> Iterator[Samples]:
    """Samples of one recording, (n,), mono at 16 kHz; a new layout within it begins a new signal."""
    layout, signal = (0, 0), MonoSignal(1, SAMPLE_RATE)
    with contextlib.closing(found.open(file, name)) as reader:
        for block in joined(_of_track(reader.blocks(), found.track)):
            n_channels = block.samples.shape[1]
            if layout != (layout := (n_channels, block.rate)):
                yield signal.finish()
                signal = MonoSignal(*layout, block.speakers, found.levels.get(n_channels), found.full_scale)
            yield signal.convert(block.samples)
        yield signal.finish()


def _of_track(blocks: Iterator[Block], track: int) -> Iterator[Block]:
    return (block for block in blocks if block.track == track)


def _in_seconds(blocks: Iterator[Samples]) -> Iterator[Samples]:
    """The same samples, a second at a time; the last block may be shorter."""
    kept: list[Samples] = []
    n = 0
    for block in blocks:
        kept.append(block)
        n += len(block)
        if n >= SAMPLE_RATE:
            joined = np.concatenate(kept)
            whole = n - n % SAMPLE_RATE
            yield from np.split(joined[:whole], whole // SAMPLE_RATE)
            kept, n = [joined[whole:]], n - whole
    if n:
        yield np.concatenate(kept)
