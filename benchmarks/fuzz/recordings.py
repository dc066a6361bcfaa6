"""Recordings in every container: as files, and live, in messages of any length."""

from __future__ import annotations

import io
import random
import time
from collections.abc import Iterator

import numpy as np

from benchmarks.fuzz.cases import Parser
from streamer.audio.container_stream import NOTHING_YET
from streamer.audio.containers import ContainerDecoder
from streamer.audio.files import open_audio
from streamer.audio.pcm import SAMPLE_RATE, Samples
from tests.helpers.live_recordings import FORMATS, recording

LONGEST_WAIT_S = 10.0
"""For FFmpeg's thread, which has the processor to itself when it is waited for."""
MOST_S = 3600.0
"""Sound of a case, after which nobody reads on, seconds."""


def parsers() -> Iterator[Parser]:
    """Both; slow ones, for FFmpeg opens and decodes each case."""
    t = np.arange(SAMPLE_RATE // 2) / SAMPLE_RATE
    tone = (0.3 * np.sin(2 * np.pi * (200 + 400 * t) * t)).astype(np.float32)
    recordings = [recording(name, tone) for name in FORMATS]
    yield Parser("recordings", recordings, check_file, 0.02)
    yield Parser("live recordings", recordings, check_live, 0.02)


def check_file(data: bytes, _: random.Random) -> None:
    """A file that is accepted has as much sound as was counted, all of it finite."""
    file = open_audio(io.BytesIO(data), "case", MOST_S)
    n_samples = 0
    try:
        for block in file.blocks:
            assert np.isfinite(block).all()
            n_samples += len(block)
            if n_samples > MOST_S * SAMPLE_RATE:
                return
    finally:
        file.close()
    assert abs(n_samples / SAMPLE_RATE - file.duration_s) < 1, "not as long as was counted"


def check_live(data: bytes, random_: random.Random) -> None:
    """What is accepted of a live recording becomes finite samples."""
    decoder = ContainerDecoder(is_opus=random_.random() < 0.2)
    try:
        while data:
            n = random_.choice((1, 10, 100, 1000, 10_000, 100_000))
            take(decoder.blocks(data[:n]))
            data = data[n:]
        take(decoder.end())
    finally:
        decoder.close()


def take(blocks: Iterator[Samples]) -> None:
    """Look at samples as they come."""
    waits_until_s = time.monotonic() + LONGEST_WAIT_S
    for block in blocks:
        if block is NOTHING_YET:
            assert time.monotonic() < waits_until_s, "a decoder that never ends"
            time.sleep(0.001)
        else:
            assert np.isfinite(block).all()
            waits_until_s = time.monotonic() + LONGEST_WAIT_S
