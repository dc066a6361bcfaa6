"""Recordings as damage, crashes and pipes leave them, and how much of them FFmpeg decodes."""

from __future__ import annotations

import io
import random

import numpy as np
import soundfile
from numpy.typing import NDArray

from streamer.audio.files import read_sound
from streamer.audio.notes import Note
from tests.helpers.live_recordings import RATE, heard_by_ffmpeg, recording

FRAME_S = 0.15
"""What codecs add and trim at the beginning and at the end, at most."""


def heard(data: bytes) -> tuple[float, tuple[Note, ...]]:
    """Seconds of sound in a file, and what is told of it."""
    sound = read_sound(io.BytesIO(data), "file")
    assert np.isfinite(sound.samples).all()
    assert np.abs(sound.samples).max(initial=0) <= 1
    return len(sound.samples) / RATE, sound.notes


def seconds_of_ffmpeg(data: bytes) -> float:
    """Seconds of sound that FFmpeg decodes."""
    return len(heard_by_ffmpeg(data)) / RATE


def with_random_bytes(data: bytes, share: float, seed: int) -> bytes:
    """A share of the bytes, in one stretch behind the first quarter, replaced by chance."""
    source = random.Random(seed)
    n = round(len(data) * share)
    at = source.randrange(len(data) // 4, max(len(data) // 4 + 1, len(data) - n))
    return data[:at] + source.randbytes(n) + data[at + n :]


def with_patch(data: bytes, at: int, patch: bytes) -> bytes:
    """Bytes at a position replaced."""
    return data[:at] + patch + data[at + len(patch) :]


def with_total_samples(flac: bytes, n: int) -> bytes:
    """A FLAC file whose header tells this number of samples (36 bits of STREAMINFO)."""
    told = int.from_bytes(flac[18:26], "big") >> 36 << 36 | n
    return with_patch(flac, 18, told.to_bytes(8, "big"))


def in_last_fragment(mp4: bytes, n: int) -> bytes:
    """A fragmented MP4 that ends `n` bytes after the beginning of its last whole fragment's sound."""
    return mp4[: mp4.rindex(b"mdat", 0, mp4.rindex(b"moof")) + 4 + n]


def _stereo(left: NDArray[np.float32], right: NDArray[np.float32]) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, np.stack([left, right], axis=1), RATE, format="WAV")
    return file.getvalue()


def as_they_come(speech: NDArray[np.float32]) -> dict[str, bytes]:
    """
    One recording, (n,) at 16 kHz, as recorders and networks leave it, by the name of its file.

    A pipe knows no length, a recorder that crashed wrote none, a disk damages packets, a download breaks off, a cable
    turns a channel over or loses it.
    """
    plain, fragmented = recording("wav 8 bit", speech), recording("fragmented mp4", speech)
    return {
        "piped.flac": with_total_samples(recording("flac", speech), 0),
        "crashed.wav": with_patch(with_patch(plain, 4, bytes(4)), plain.index(b"data") + 4, bytes(4)),
        "damaged.mp3": with_random_bytes(recording("mp3", speech), 0.03, 1),
        "cut.aac": recording("aac", speech)[:-1500],
        "cut.mp4": in_last_fragment(fragmented, 100),
        "out of phase.wav": _stereo(speech, -speech),
        "left silent.wav": _stereo(np.zeros_like(speech), speech),
        "stopped and started.webm": recording("webm opus", speech[:80_000]) + recording("webm opus", speech[80_000:]),
    }
