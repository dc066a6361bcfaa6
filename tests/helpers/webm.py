"""Recordings as a browser makes them."""

from __future__ import annotations

import io

import av
import numpy as np
from numpy.typing import NDArray

RATE = 48000


def recorded(samples: NDArray[np.float32]) -> bytes:
    """Samples in [-1, 1], (n,), at 48 kHz, as a live recording: clusters without a size, no index."""
    file = io.BytesIO()
    with av.open(file, "w", format="webm", options={"live": "1"}) as out:
        stream = out.add_stream("libopus", rate=RATE)
        stream.layout = "mono"
        for start in range(0, len(samples), 960):
            frame = av.AudioFrame.from_ndarray(samples[None, start : start + 960], format="flt", layout="mono")
            frame.sample_rate, frame.pts = RATE, start
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return file.getvalue()
