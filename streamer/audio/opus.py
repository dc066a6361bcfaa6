"""
Streaming decoders of Opus: bare packets, and the WebM recordings of a browser's `MediaRecorder`.

`webm` reads the container and bounds it. FFmpeg's Opus decoder (PyAV, extra `codecs`) decodes one packet at a time and
yields at most a second of audio before the caller continues. Packet times are stream times: a client that resumes sends
its recording from the start, and audio that the session already has is not decoded again.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from importlib.util import find_spec

import numpy as np

from streamer.audio.mixer import Mixer
from streamer.audio.opus_packet import n_samples as samples_of
from streamer.audio.pcm import Resampler, Samples
from streamer.audio.webm import Packet, WebmReader
from streamer.errors import AudioFormatError, ProtocolError
from streamer.extras import missing

OPUS_RATE = 48000
PIECE_BYTES = 4096
"""Bytes read between two blocks, empty ones included: at most 2,048 elements of the container."""
SETTLE_S = 0.08
"""Audio that is decoded and discarded before the first sample needed, while the decoder converges."""
MAX_GAP_S = 60.0
"""Longest gap between two packets that is filled with silence. Behind a longer one, as of a machine that slept, or of a
time that is damaged, the recording goes on at once."""
MAX_DAMAGED = 1000
"""Packets in a row that cannot be decoded, after which a recording is given up: about twenty seconds."""
TOLERANCE_S = 0.1
"""Allowed deviation of packet times: recorders take them from the wall clock."""


def preload() -> None:
    """Load FFmpeg, if it is installed: the first recording would hold the event loop for the time that takes."""
    with contextlib.suppress(ImportError):
        import av  # noqa: F401 - for the side effect


def can_decode() -> bool:
    """Whether PyAV is installed: without it no compressed audio is taken."""
    return find_spec("av") is not None


class OpusPackets:
    """
    Decodes Opus packets, one a message, with the interface of `containers.Recording`.

    Raises:
        ProtocolError: Code `no_codecs`: PyAV is not installed.
    """

    def __init__(self) -> None:
        try:
            import av
        except ImportError:
            raise ProtocolError("no_codecs", f"compressed audio cannot be read: {missing('codecs')}") from None
        self._av = av
        self._codec = av.CodecContext.create("opus", "r")
        self._codec.sample_rate = OPUS_RATE
        self._codec.layout = "stereo"
        self._resampler = Resampler(OPUS_RATE)
        self._mixer = Mixer(2, OPUS_RATE)
        self._n_damaged = 0
        self._has_sound = False

    def decode(self, packet: bytes) -> Samples:
        """
        Decode one packet: samples at `OPUS_RATE`, (n,); none of one that is damaged.

        Raises:
            AudioFormatError: It is no Opus packet, nor was any before it, or any of the last `MAX_DAMAGED`.
        """
        try:
            frames = self._codec.decode(self._av.Packet(packet))
        except self._av.error.FFmpegError as error:
            self._n_damaged += 1
            if not self._has_sound or self._n_damaged > MAX_DAMAGED:
                raise AudioFormatError(f"a packet of {len(packet)} bytes is no Opus ({error})") from None
            return np.zeros(0, np.float32)
        self._n_damaged, self._has_sound = 0, True
        blocks = [self._mixed(frame.to_ndarray().T.astype(np.float32, copy=False)) for frame in frames]
        return np.concatenate(blocks) if blocks else np.zeros(0, np.float32)

    def _mixed(self, stereo: Samples) -> Samples:
        """Mix (n, 2) to (n,). A decoder makes two equal channels of one: there is nothing to choose."""
        return stereo[:, 0] if np.array_equal(stereo[:, 0], stereo[:, 1]) else self._mixer.mix(stereo)

    def blocks(self, data: bytes) -> Iterator[Samples]:
        """Samples of one packet at 16 kHz, (n,). Raises AudioFormatError: it is no Opus packet."""
        if data:
            yield self._resampler.resample(self.decode(data))

    def end(self) -> Iterator[Samples]:
        """The samples that the resampler still holds, (n,)."""
        yield self._resampler.finish()

    def close(self) -> None:
        """Do nothing: there is nothing to let go of."""


class WebmDecoder:
    """
    Decodes recordings in WebM, with the interface of `containers.Recording`.

    Raises:
        ProtocolError: Code `no_codecs`: PyAV is not installed.
    """

    def __init__(self) -> None:
        self._opus = OpusPackets()
        self._reader = WebmReader()
        self._resampler = Resampler(OPUS_RATE)
        self._at = 0
        """Samples of the recordings that were read, at `OPUS_RATE`."""
        self._from = 0
        self._recording = 0
        self._began_at = 0
        """Samples before the present recording, less those of gaps that were left out."""

    @property
    def left_to_skip_s(self) -> float:
        """Time that is still to be skipped, in seconds."""
        return max(self._from - self._at, 0) / OPUS_RATE

    @property
    def skipped_to_s(self) -> float:
        """Time of the recording before which no samples are returned, in seconds."""
        return self._from / OPUS_RATE

    def skip_to(self, stream_s: float) -> None:
        """Return no samples before this time of the recording."""
        self._from = round(stream_s * OPUS_RATE)

    def blocks(self, data: bytes) -> Iterator[Samples]:
        """
        Decode the packets that `data` completes: samples at 16 kHz, (n,), at most a second at a time.

        Raises:
            AudioFormatError: The bytes are not a recording of one Opus track, or are damaged.
        """
        for at in range(0, len(data), PIECE_BYTES):
            for packet in self._reader.read(data[at : at + PIECE_BYTES]):
                if packet.recording != self._recording:
                    self._recording, self._began_at = packet.recording, self._at
                yield from self._gap(packet.start_s + self._began_at / OPUS_RATE)
                samples = self._decoded(packet)
                yield self._wanted(samples)
            yield np.zeros(0, np.float32)  # a piece may hold thousands of elements without a packet

    def finish(self) -> Samples:
        """Samples that the resampler still holds, (n,)."""
        return self._resampler.finish()

    def end(self) -> Iterator[Samples]:
        """The samples of `finish`, (n,): no bytes follow."""
        yield self.finish()

    def close(self) -> None:
        """Do nothing: there is nothing to let go of."""

    def _gap(self, start_s: float) -> Iterator[Samples]:
        """Silence for a gap in the recording, unless it is too long."""
        n = round(start_s * OPUS_RATE) - self._at
        if n <= TOLERANCE_S * OPUS_RATE:
            return
        if n > MAX_GAP_S * OPUS_RATE:
            self._began_at -= n
            return
        passed_over = min(max(self._from - self._at, 0), n)
        self._at += passed_over
        n -= passed_over
        while n > 0:
            block = min(n, OPUS_RATE)
            yield self._wanted(np.zeros(block, np.float32))
            n -= block

    def _decoded(self, packet: Packet) -> Samples:
        n_samples = samples_of(packet.data)
        if self._at + n_samples + SETTLE_S * OPUS_RATE < self._from:
            return np.zeros(n_samples, np.float32)
        return self._opus.decode(packet.data)

    def _wanted(self, samples: Samples) -> Samples:
        """Resample to 16 kHz, without samples before the time of `skip_to`."""
        skipped = max(self._from - self._at, 0)
        self._at += len(samples)
        return self._resampler.resample(samples[skipped:])
