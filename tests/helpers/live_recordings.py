"""Recordings in every container, as clients send them live, and what FFmpeg hears in them."""

from __future__ import annotations

import contextlib
import functools
import io
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

RATE = 16_000
FRAGMENTED = {"movflags": "frag_keyframe+empty_moov+default_base_moof", "frag_duration": "200000"}
FORMATS: dict[str, tuple[str, str, int, dict[str, str]]] = {
    # name: container, codec, rate of the codec, options of the container
    "webm opus": ("webm", "libopus", 48_000, {"live": "1"}),
    "webm vorbis": ("webm", "vorbis", 16_000, {"live": "1"}),
    "ogg opus": ("ogg", "libopus", 48_000, {}),
    "ogg flac": ("ogg", "flac", 16_000, {}),
    "mp3": ("mp3", "libmp3lame", 16_000, {}),
    "aac": ("adts", "aac", 16_000, {}),
    "flac": ("flac", "flac", 16_000, {}),
    "fragmented mp4": ("mp4", "aac", 16_000, FRAGMENTED),
    "mpegts": ("mpegts", "aac", 16_000, {}),
    "caf": ("caf", "pcm_s16le", 16_000, {}),
    "wav 8 bit": ("wav", "pcm_u8", 16_000, {}),
    "wav 24 bit": ("wav", "pcm_s24le", 44_100, {}),
    "wav 32 bit": ("wav", "pcm_s32le", 48_000, {}),
    "wav float 64": ("wav", "pcm_f64le", 16_000, {}),
    "wav adpcm": ("wav", "adpcm_ms", 16_000, {}),
}


def recording(name: str, samples: NDArray[np.float32]) -> bytes:
    """Samples at 16 kHz, (n,), in one of `FORMATS`."""
    container, codec, rate, options = FORMATS[name]
    file = io.BytesIO()
    with av.open(file, "w", format=container, options=options) as out:
        stream: Any = out.add_stream(codec, rate=rate)
        experimental = {"strict": "experimental"} if codec == "vorbis" else {}
        stream.codec_context.options = experimental
        stream.layout = "stereo" if codec == "vorbis" else "mono"
        frame = av.AudioFrame.from_ndarray(samples[None], format="flt", layout="mono")
        frame.sample_rate, frame.pts = RATE, 0
        fifo = av.AudioFifo()
        stream.codec_context.open()
        resampler = av.AudioResampler(format=stream.codec_context.format, layout=stream.layout, rate=rate)
        for resampled in [*resampler.resample(frame), *resampler.resample(None)]:
            fifo.write(resampled)
        while (block := fifo.read(stream.codec_context.frame_size or 1024, partial=True)) is not None:
            out.mux(stream.encode(block))
        out.mux(stream.encode(None))
    return file.getvalue()


SECONDS = 2
"""Length of `tone`."""


@functools.cache
def tone() -> NDArray[np.float32]:
    """A tone that rises, (n,), at 16 kHz."""
    t = np.arange(SECONDS * RATE) / RATE
    return (0.3 * np.sin(2 * np.pi * (200 + 100 * t) * t)).astype(np.float32)


@functools.cache
def recorded(name: str) -> bytes:
    """The tone in one of `FORMATS`."""
    return recording(name, tone())


def heard_by_ffmpeg(data: bytes) -> NDArray[np.float32]:
    """All samples at 16 kHz, (n,), that FFmpeg decodes of a whole file: the mean of its channels."""
    resampler = av.AudioResampler(format="fltp", rate=RATE)
    blocks = [np.zeros(0, np.float32)]
    with contextlib.suppress(av.error.FFmpegError), av.open(io.BytesIO(data), mode="r") as file:
        for packet in file.demux(audio=0):
            with contextlib.suppress(av.error.InvalidDataError):
                for frame in packet.decode():
                    blocks += [block.to_ndarray().mean(axis=0) for block in resampler.resample(frame)]
    with contextlib.suppress(ValueError):  # there was no frame
        blocks += [block.to_ndarray().mean(axis=0) for block in resampler.resample(None)]
    return np.concatenate(blocks)
