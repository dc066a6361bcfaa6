"""
Decode audio files and uploads to mono float32 samples at 16 kHz, block by block: memory does not grow with length.

libsndfile reads wav, flac, ogg, mp3 and more; every other container needs the extra `codecs` (FFmpeg). Files are not
trusted, so FFmpeg may open containers only: its playlists and stream descriptions can name other files and addresses.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from streamer.audio.pcm import SAMPLE_RATE, Resampler, Samples, finite, mean_of_channels
from streamer.errors import AudioFormatError
from streamer.extras import pip_install

MIN_FILE_RATE, MAX_FILE_RATE = 1000, 384_000
"""Sample rates of files, hertz."""
MAX_FILE_CHANNELS = 64
CONTAINERS = (
    "mov",
    "matroska",
    "ogg",
    "mp3",
    "aac",
    "wav",
    "w64",
    "flac",
    "aiff",
    "caf",
    "asf",
    "amr",
    "mpeg",
    "mpegts",
)
"""Formats that FFmpeg may detect."""


@dataclass(frozen=True, slots=True)
class AudioFile:
    """An open recording. The caller closes it, and the file object that it was opened from."""

    duration_s: float | None
    """According to its header; None if the header has none."""
    blocks: Iterator[Samples]
    """Samples (n,), mono at 16 kHz, about a second at a time. Raises AudioFormatError at damaged data."""
    close: Callable[[], None]
    """Releases the decoder."""


def open_audio(file: IO[bytes], name: str) -> AudioFile:
    """
    Open a recording.

    Args:
        file: Its bytes; must be seekable.
        name: For error messages.

    Raises:
        AudioFormatError: No decoder on this machine reads the file.
    """
    # imported here: it loads a shared library that the daemon does not need until a file comes
    import soundfile

    try:
        sound = soundfile.SoundFile(file)
    except soundfile.LibsndfileError:
        file.seek(0)
        return _open_with_codecs(file, name)
    try:
        _check_layout(name, sound.samplerate, sound.channels)
    except AudioFormatError:
        sound.close()
        raise
    return AudioFile(sound.frames / sound.samplerate, _sound_blocks(sound, name), sound.close)


def read_audio(path: Path) -> Samples:
    """
    Read a whole audio file as mono samples at 16 kHz, (n,).

    Raises:
        AudioFormatError: There is no such file, or no decoder on this machine reads it.
    """
    if not path.is_file():
        raise AudioFormatError(f"{path}: no such file")
    with path.open("rb") as file:
        audio = open_audio(file, str(path))
        try:
            return np.concatenate([np.zeros(0, np.float32), *audio.blocks])
        finally:
            audio.close()


def _check_layout(name: str, rate: int, channels: int) -> None:
    if not MIN_FILE_RATE <= rate <= MAX_FILE_RATE:
        raise AudioFormatError(f"{name}: {rate} samples per second, expected {MIN_FILE_RATE} to {MAX_FILE_RATE}")
    if not 1 <= channels <= MAX_FILE_CHANNELS:
        raise AudioFormatError(f"{name}: {channels} channels, expected 1 to {MAX_FILE_CHANNELS}")


def _sound_blocks(sound: Any, name: str) -> Iterator[Samples]:
    import soundfile

    resampler = Resampler(sound.samplerate)
    try:
        while len(samples := sound.read(sound.samplerate, dtype="float32", always_2d=True)):
            yield resampler.resample(finite(mean_of_channels(samples)))
    except soundfile.LibsndfileError as error:
        raise AudioFormatError(f"{name}: damaged ({error})") from None
    yield resampler.finish()


def _open_with_codecs(file: IO[bytes], name: str) -> AudioFile:
    try:
        import av
    except ImportError:
        raise AudioFormatError(
            f"{name}: not wav, flac, ogg or mp3; other formats need: {pip_install('codecs')}"
        ) from None
    options = {"format_whitelist": ",".join(CONTAINERS), "protocol_whitelist": "none"}
    try:
        # without `mode` PyAV uses the file's own: a temporary file, open for writing, would become an output
        container: Any = av.open(file, mode="r", container_options=options, metadata_errors="replace")
    except (av.error.FFmpegError, ValueError) as error:
        raise AudioFormatError(f"{name}: no audio that can be decoded ({error})") from None
    if not container.streams.audio:
        container.close()
        raise AudioFormatError(f"{name}: no audio that can be decoded (no audio track)")
    duration_s = container.duration / av.time_base if container.duration else None
    return AudioFile(duration_s, _codec_blocks(container, name), container.close)


def _codec_blocks(container: Any, name: str) -> Iterator[Samples]:
    import av

    resampler = av.AudioResampler(format="flt", layout="mono", rate=SAMPLE_RATE)
    try:
        for frame in container.decode(audio=0):
            for block in resampler.resample(frame):
                yield finite(block.to_ndarray()[0])
        for block in resampler.resample(None):
            yield finite(block.to_ndarray()[0])
    except (av.error.FFmpegError, ValueError) as error:
        raise AudioFormatError(f"{name}: no audio that can be decoded ({error})") from None
