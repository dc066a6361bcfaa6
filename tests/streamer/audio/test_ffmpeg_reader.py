"""Tests of streamer/audio/ffmpeg_reader.py: the samples of a frame, in every format and number of channels."""

from __future__ import annotations

import av
import numpy as np
import pytest

from streamer.audio.ffmpeg_reader import pieces
from tests.helpers.damaged_recordings import heard
from tests.helpers.live_recordings import SECONDS, recorded

LAYOUTS = {1: "mono", 2: "stereo", 6: "5.1", 8: "7.1", 16: "hexadecagonal", 24: "22.2"}
DTYPES = {"u8": "u1", "s16": "i2", "s32": "i4", "s64": "i8", "flt": "f4", "dbl": "f8"}


@pytest.mark.parametrize("n_channels", LAYOUTS)
@pytest.mark.parametrize("name", [*DTYPES, *(f"{name}p" for name in DTYPES)])
def test_every_channel_is_read_and_nothing_else(name: str, n_channels: int) -> None:
    """Also of more than eight, behind whose planes PyAV reads on."""
    frame = av.AudioFrame(name, LAYOUTS[n_channels], 64)
    frame.sample_rate = 16_000
    values = np.tile(np.arange(1, n_channels + 1, dtype=DTYPES[name.removesuffix("p")]), (64, 1))  # (n, n_channels)
    stored = values.T if name.endswith("p") else values.reshape(1, -1)
    for plane, samples in zip(frame.planes[: len(stored)], stored, strict=True):
        plane.update(np.pad(samples, (0, plane.buffer_size // samples.itemsize - len(samples))).tobytes())
    found = np.concatenate([*pieces(frame)])
    assert found.shape == (64, n_channels)
    assert (found == found[0]).all()
    assert (np.diff(found[0]) > 0).all() or name.startswith(("s32", "s64"))  # steps too small for a float


def test_a_damaged_frame_that_tells_fourteen_channels_is_read() -> None:
    """A packet of AAC whose bytes are those of others."""
    data = recorded("fragmented mp4")
    assert heard(data[:6425] + data[6926:])[0] > SECONDS - 1.0
