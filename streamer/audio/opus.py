"""
Compressed audio of one stream, decoded while it comes: `webm_opus`, as a browser's `MediaRecorder` sends it.

The container is read by `webm`, which bounds it; packets are decoded by FFmpeg's Opus decoder (PyAV, extra `codecs`),
one at a time and a second of sound at most before the caller goes on. The clock of the recording is that of the stream:
a client that comes back sends its recording from the start, and what the session has is not decoded again.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from streamer.audio.pcm import Resampler, Samples
from streamer.audio.webm import Packet, WebmReader
from streamer.errors import AudioFormatError, ProtocolError
from streamer.extras import pip_install

OPUS_RATE = 48000
SETTLE_S = 0.08
"""Sound decoded and thrown away before the first that is wanted: the decoder needs it to settle."""
MAX_GAP_S = 60.0
"""Longest pause between two packets that is taken for silence."""
TOLERANCE_S = 0.1
"""Packets may be stamped this far from where they belong: recorders stamp them by the wall clock."""


class WebmDecoder:
    """
    The counterpart of `AudioDecoder` for `webm_opus`.

    Raises:
        ProtocolError: Code `no_codecs`: PyAV is not installed.
    """

    def __init__(self) -> None:
        try:
            import av
        except ImportError:
            message = f"webm_opus needs a package that the server does not have: {pip_install('codecs')}"
            raise ProtocolError("no_codecs", message) from None
        self._av = av
        self._codec = av.CodecContext.create("opus", "r")
        self._codec.sample_rate = OPUS_RATE
        self._codec.layout = "stereo"
        self._reader = WebmReader()
        self._resampler = Resampler(OPUS_RATE)
        self._at = 0
        """Samples of the recording so far, at `OPUS_RATE`."""
        self._from = 0

    def skip_to(self, stream_s: float) -> None:
        """Begin there: what comes before is not said."""
        self._from = round(stream_s * OPUS_RATE)

    def blocks(self, data: bytes) -> Iterator[Samples]:
        """
        Samples at 16 kHz that `data` completes, (n,), a second or less at a time.

        Raises:
            AudioFormatError: Not a recording of one Opus track, or damaged.
        """
        for packet in self._reader.read(data):
            yield from self._gap(packet.start_s)
            samples = self._decoded(packet)
            yield self._wanted(samples)

    def finish(self) -> Samples:
        """The samples that the resampler still holds, (n,)."""
        return self._resampler.finish()

    def _gap(self, start_s: float) -> Iterator[Samples]:
        """Silence where the recorder sent nothing."""
        n = round(start_s * OPUS_RATE) - self._at
        if n <= TOLERANCE_S * OPUS_RATE:
            return
        passed_over = min(max(self._from - self._at, 0), n)
        self._at += passed_over
        n -= passed_over
        if n > MAX_GAP_S * OPUS_RATE:
            raise AudioFormatError(f"webm audio: a gap of {n / OPUS_RATE:.0f} s, expected at most {MAX_GAP_S:g}")
        while n > 0:
            block = min(n, OPUS_RATE)
            yield self._wanted(np.zeros(block, np.float32))
            n -= block

    def _decoded(self, packet: Packet) -> Samples:
        n_samples = _n_samples(packet.data)
        if self._at + n_samples + SETTLE_S * OPUS_RATE < self._from:
            return np.zeros(n_samples, np.float32)
        try:
            frames = self._codec.decode(self._av.Packet(packet.data))
        except self._av.error.FFmpegError as error:
            raise AudioFormatError(f"webm audio: packet at {packet.start_s:.2f} s is no Opus ({error})") from None
        blocks = [frame.to_ndarray().mean(axis=0, dtype=np.float32) for frame in frames]
        return np.concatenate(blocks) if blocks else np.zeros(0, np.float32)

    def _wanted(self, samples: Samples) -> Samples:
        """At 16 kHz, without what lies before the beginning."""
        skipped = max(self._from - self._at, 0)
        self._at += len(samples)
        return self._resampler.resample(samples[skipped:])


def _n_samples(packet: bytes) -> int:
    """Samples that an Opus packet lasts, by its first bytes (RFC 6716, section 3.1)."""
    config, code = packet[0] >> 3, packet[0] & 3
    if config < 12:
        frame = (480, 960, 1920, 2880)[config & 3]
    elif config < 16:
        frame = (480, 960)[config & 1]
    else:
        frame = (120, 240, 480, 960)[config & 3]
    n_frames = (1, 2, 2, packet[1] & 0x3F if len(packet) > 1 else 0)[code]
    return frame * n_frames
