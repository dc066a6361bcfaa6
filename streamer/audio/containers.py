"""
Live recordings in any container, as their bytes come: one after the other, as a recorder that stops and starts sends.

Opus in WebM and plain samples in WAV are read here, everything else by FFmpeg. A recording begins where a message
begins with the header of one; WebM is told anywhere, since its header stands between elements.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import numpy as np

from streamer.audio.container_stream import NOTHING_YET, ContainerStream
from streamer.audio.movie_stream import MovieStream
from streamer.audio.opus import OpusPackets, WebmDecoder
from streamer.audio.pcm import SAMPLE_RATE, Samples
from streamer.audio.signatures import WAV, WEBM, Beginning, begins_recording, may_begin_recording
from streamer.audio.wav import WavStream
from streamer.errors import AudioFormatError

OGG = b"OggS"
MAX_KEPT_BYTES = 131_072
"""Bytes of a recording that are kept before its first sample, in case FFmpeg has to read them."""
MAX_MAGIC = 12
"""Bytes that tell whether a recording begins."""


class Recording(Protocol):
    """Decodes one recording while its bytes come."""

    def blocks(self, data: bytes) -> Iterator[Samples]:
        """Samples (n,) at 16 kHz that `data` completes. Raises AudioFormatError: nothing can be decoded."""

    def end(self) -> Iterator[Samples]:
        """The rest of the samples, (n,) at 16 kHz: no bytes follow. Raises AudioFormatError."""

    def close(self) -> None:
        """Let go of what the decoder holds."""


class ContainerDecoder:
    """
    Decodes the recordings of one connection, with the interface of `AudioDecoder`.

    Args:
        is_opus: A first message in no container is an Opus packet, and so is each after it.

    Raises:
        ProtocolError: Code `no_codecs`: PyAV is not installed.
    """

    def __init__(self, *, is_opus: bool = False) -> None:
        self._is_opus = is_opus
        self._packets = OpusPackets()  # raises where there are no codecs, before anything is sent
        self._recording: Recording | None = None
        self._beginning = Beginning()
        self._head = b""
        """First bytes of a message that may begin a next recording, until that is known."""
        self._kept: bytes | None = None
        """All bytes of a recording that may have to be read by FFmpeg, until its first sample."""
        self._has_sound = self._is_ogg = False
        self._n_skipped = 0
        """Samples at 16 kHz to drop before the first that is wanted."""

    def skip_to(self, stream_s: float) -> None:
        """Return no samples before this time: a client that resumes sends its recordings from their start."""
        self._n_skipped = round(stream_s * SAMPLE_RATE)

    @property
    def left_to_skip_s(self) -> float:
        """Time of which no samples are returned from here on, in seconds."""
        webm = self._recording
        return webm.left_to_skip_s if isinstance(webm, WebmDecoder) else self._n_skipped / SAMPLE_RATE

    def blocks(self, data: bytes) -> Iterator[Samples]:
        """
        Decode one message: samples (n,) at 16 kHz, a second at a time at most, or `NOTHING_YET`.

        Raises:
            AudioFormatError: There is nothing that can be decoded.
        """
        data = self._head + data
        self._head = b""
        if self._recording is None:
            data = self._opened(data)
        elif self._begins(data):
            yield from self.end()
            self._open(data)
        if self._recording is not None and not self._head:
            yield from map(self._wanted, self._decoded(self._recording, data))

    def finish(self) -> Samples:
        """No samples, (0,): what a codec holds back comes with the next bytes, or at `end`."""
        return np.zeros(0, np.float32)

    def end(self) -> Iterator[Samples]:
        """
        Decode the rest: no bytes follow. Samples (n,) at 16 kHz.

        Raises:
            AudioFormatError: There is nothing that can be decoded.
        """
        if self._recording is None and (begun := self._beginning.end()):
            self._open(begun)
            self._head = begun
        elif self._recording is None and self._head:  # of Opus, too short to be told from a container
            self._open(self._head)
        recording, self._recording = self._recording, None
        has_sound, self._has_sound = self._has_sound, False
        head, self._head = self._head, b""
        if recording is None:
            return
        try:
            yield from map(self._wanted, recording.blocks(head))
            yield from map(self._wanted, recording.end())
        except AudioFormatError:
            if not has_sound:
                raise
        finally:
            recording.close()
            if isinstance(recording, WebmDecoder):
                self._n_skipped = round(recording.left_to_skip_s * SAMPLE_RATE)

    def close(self) -> None:
        """Let go of the decoder; call it in any case."""
        if self._recording is not None:
            self._recording.close()
            self._recording = None

    def _opened(self, data: bytes) -> bytes:
        """Open the first recording once it is known what it is; returns its bytes up to here."""
        if not self._is_opus:
            data = self._beginning.receive(data)
        elif len(data) <= MAX_MAGIC and may_begin_recording(data):
            self._head = data
            return b""
        if data:
            self._open(data)
        return data

    def _begins(self, data: bytes) -> bool:
        """Whether the next recording begins here; keeps `data` as head while more bytes are needed to tell."""
        if self._recording is self._packets or (
            self._is_ogg and not self._has_sound and data.startswith(OGG[: len(data)])
        ):
            return False  # a packet is no header; an Ogg file may begin with the first pages of several streams
        self._head = data if may_begin_recording(data) else b""
        return begins_recording(data)

    def _open(self, data: bytes) -> None:
        self._kept, self._is_ogg = b"", data.startswith(OGG)
        if data.startswith(WEBM):
            webm = WebmDecoder()
            webm.skip_to(self._n_skipped / SAMPLE_RATE)
            self._recording, self._n_skipped = webm, 0
        elif data.startswith(WAV) and data[8:12] != b"AVI ":
            self._recording = WavStream()
        elif self._is_opus and not begins_recording(data):
            self._recording, self._kept = self._packets, None
        else:
            self._recording, self._kept = MovieStream() if data[4:8] == b"ftyp" else ContainerStream(), None

    def _decoded(self, recording: Recording, data: bytes) -> Iterator[Samples]:
        """Decode with the decoder of this recording; what it cannot read from the beginning on, FFmpeg reads."""
        if self._kept is None:
            yield from recording.blocks(data)
            return
        self._kept = self._kept + data if len(self._kept) < MAX_KEPT_BYTES else None
        try:
            for samples in recording.blocks(data):
                self._kept = None if len(samples) else self._kept
                yield samples
        except AudioFormatError:
            if self._kept is None or (isinstance(recording, WavStream) and recording.holds_several):
                raise
            kept, self._kept = self._kept, None
            if isinstance(recording, WebmDecoder):
                self._n_skipped = round(recording.skipped_to_s * SAMPLE_RATE)
            self._recording = ContainerStream()
            yield from self._recording.blocks(kept)

    def _wanted(self, samples: Samples) -> Samples:
        if samples is NOTHING_YET:
            return samples
        self._has_sound = self._has_sound or len(samples) > 0
        n_skipped = min(self._n_skipped, len(samples))
        self._n_skipped -= n_skipped
        return samples[n_skipped:]
