"""
WAV as a stream: the header, wherever the bytes are split, and samples of every width.

Sizes of a stream are often wrong, since they were written before its end was known: 0, or the largest number. Such a
size means that samples follow up to the end.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamer.audio.mixer import MonoSignal
from streamer.audio.pcm import Samples, alaw_table, finite, mulaw_table
from streamer.errors import AudioFormatError

MAX_HEADER_BYTES = 65_536
"""Largest header; more bytes without a data chunk are refused."""
MIN_WAV_RATE, MAX_WAV_RATE = 1000, 384_000
"""Sample rates, in hertz."""
MAX_WAV_CHANNELS = 64
PIECE_BYTES = 65_536
"""Bytes decoded at once."""
RIFF = (b"RIFF", b"RF64")
_UNKNOWN_SIZES = (0, 0xFFFFFFFF, 0x7FFFFFFF, 0x7FFFFFFF - 36, 0xFFFFFFFF - 36)
_PCM, _FLOAT, _ALAW, _MULAW, _EXTENSIBLE = 1, 3, 6, 7, 0xFFFE
_WIDTHS = {(_PCM, 8), (_PCM, 16), (_PCM, 24), (_PCM, 32), (_FLOAT, 32), (_FLOAT, 64), (_ALAW, 8), (_MULAW, 8)}
"""Format tags and bits per sample."""


class WavFormat(NamedTuple):
    """Format of the samples."""

    tag: int
    bits: int
    rate: int
    channels: int

    @property
    def frame_bytes(self) -> int:
        """Bytes of one sample of every channel."""
        return self.bits // 8 * self.channels


class WavHeader:
    """Reads the header from the beginning of a stream, in pieces of any size."""

    def __init__(self) -> None:
        self._bytes = b""

    def receive(self, data: bytes) -> tuple[WavFormat, int | None, bytes] | None:
        """
        Return the format, the bytes of samples that follow (None: up to the end of the stream) and the first of them.

        None while the header is incomplete.

        Raises:
            AudioFormatError: The data is not a WAV header, or announces audio that is not supported.
        """
        self._bytes += data
        if not any(start.startswith(self._bytes[:4]) for start in RIFF):
            raise AudioFormatError("this is no wav: it does not begin with RIFF")
        format_, at = None, 12
        while at + 8 <= len(self._bytes):
            name, size = self._bytes[at : at + 4], int.from_bytes(self._bytes[at + 4 : at + 8], "little")
            if name == b"data":
                if format_ is None:
                    raise AudioFormatError("this wav has no format before its data")
                return format_, None if size in _UNKNOWN_SIZES else size, self._bytes[at + 8 :]
            if name == b"fmt " and at + 8 + size <= len(self._bytes):
                format_ = _format(self._bytes[at + 8 : at + 8 + size])
            at += 8 + size + size % 2
        if len(self._bytes) > MAX_HEADER_BYTES:
            raise AudioFormatError(f"no audio within {MAX_HEADER_BYTES} bytes of wav header")
        return None


class WavStream:
    """Decodes one recording; the result does not depend on how its bytes are split over calls."""

    def __init__(self) -> None:
        self._header = WavHeader()
        self._format: WavFormat | None = None
        self._signal: MonoSignal | None = None
        self._n_left: int | None = None
        """Bytes of samples that follow; None: up to the end of the stream."""
        self._rest = b""

    def blocks(self, data: bytes) -> Iterator[Samples]:
        """
        Decode the samples that `data` completes: (n,) at 16 kHz, `PIECE_BYTES` at a time.

        Raises:
            AudioFormatError: The header is not supported, or a sample is not a number.
        """
        if self._format is None:
            found = self._header.receive(data)
            if found is None:
                return
            self._format, self._n_left, data = found
            self._signal = MonoSignal(self._format.channels, self._format.rate)
        for at in range(0, len(data), PIECE_BYTES):
            yield self._decoded(data[at : at + PIECE_BYTES], self._format)

    def end(self) -> Iterator[Samples]:
        """
        The samples that the resampler still holds, (n,); half a sample at the end is dropped.

        Raises:
            AudioFormatError: The stream ended before its samples began.
        """
        if self._signal is None:
            raise AudioFormatError("this wav ended in its header")
        yield self._signal.finish()

    def close(self) -> None:
        """Do nothing: there is nothing to let go of."""

    def _decoded(self, data: bytes, format_: WavFormat) -> Samples:
        assert self._signal is not None
        if self._n_left is not None:
            data = data[: self._n_left]
            self._n_left -= len(data)
        data = self._rest + data
        whole = len(data) - len(data) % format_.frame_bytes
        self._rest = data[whole:]
        samples = finite(_samples(data[:whole], format_))
        return self._signal.convert(samples.reshape(-1, format_.channels))


def _samples(data: bytes, format_: WavFormat) -> Samples:
    """Samples in [-1, 1], (n * n_channels,), of whole sample frames."""
    samples: NDArray[np.floating]
    match format_.tag, format_.bits:
        case (1, 8):
            samples = np.frombuffer(data, "u1") / 128.0 - 1
        case (1, 24):
            wide = np.zeros((len(data) // 3, 4), "u1")
            wide[:, 1:] = np.frombuffer(data, "u1").reshape(-1, 3)
            samples = wide.view("<i4")[:, 0] / 2.0**31
        case (1, bits):
            samples = np.frombuffer(data, f"<i{bits // 8}") / 2.0 ** (bits - 1)
        case (3, bits):
            samples = np.frombuffer(data, f"<f{bits // 8}")
        case _:
            table = alaw_table() if format_.tag == _ALAW else mulaw_table()
            samples = np.take(table, np.frombuffer(data, "u1"))
    return samples.astype(np.float32)


def _format(chunk: bytes) -> WavFormat:
    if len(chunk) < 16:
        raise AudioFormatError(f"wav format of {len(chunk)} bytes: expected 16 or more")
    tag, channels, rate, _, _, bits = struct.unpack("<HHIIHH", chunk[:16])
    if tag == _EXTENSIBLE and len(chunk) >= 26:
        tag = int.from_bytes(chunk[24:26], "little")
    if (tag, bits) not in _WIDTHS:
        raise AudioFormatError(f"wav format {tag} with {bits} bits: expected integers, floats, mu-law or A-law")
    if not MIN_WAV_RATE <= rate <= MAX_WAV_RATE or not 1 <= channels <= MAX_WAV_CHANNELS:
        raise AudioFormatError(
            f"wav of {rate} hertz and {channels} channels: expected {MIN_WAV_RATE} to {MAX_WAV_RATE} hertz and "
            f"1 to {MAX_WAV_CHANNELS} channels"
        )
    return WavFormat(tag, bits, rate, channels)
