"""
WAV as a stream: the header, wherever the bytes are split, and samples of every width.

Sizes of a stream are often wrong, since they were written before its end was known. So the samples go on behind their
size, unless a chunk stands there, and end where the header of a next recording stands.
"""

from __future__ import annotations

import itertools
import re
import struct
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamer.audio.mixer import MonoSignal
from streamer.audio.pcm import Samples, alaw_table, mulaw_table
from streamer.audio.reader import silenced
from streamer.audio.signatures import WAV, WAV_HEADER
from streamer.errors import AudioFormatError

MAX_HEADER_BYTES = 65_536
"""Largest header; more bytes without a data chunk are refused."""
MAX_CHUNKS = 1000
"""Chunks before the samples; files have a few, and looking at one takes 1 us."""
MIN_WAV_RATE, MAX_WAV_RATE = 1000, 384_000
"""Sample rates, in hertz."""
MAX_WAV_CHANNELS = 64
SHORT_S, MAX_SHORT = 0.01, 100
"""Recordings shorter than that, and how many may follow each other: a header takes as long as 0.1 s of sound."""
PIECE_BYTES = 65_536
"""Bytes decoded at once."""
_HEADER = re.compile(WAV_HEADER + b"fmt ", re.DOTALL)
_HEADER_BYTES = 16
_CHUNK = re.compile(rb"\0?[0-9A-Za-z_ ]{4}...\0", re.DOTALL)
"""Name and size of a chunk behind samples; samples by chance look so once in 100,000 times."""
_CHUNK_BYTES = 9
_FORMAT_AT, _FORMAT_BYTES = 20, 16
"""Where the format stands, unless a chunk comes before it, and its length at least."""
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
        self._format: WavFormat | None = None
        self._n_chunks, self._at = 0, 12
        """Where the first chunk stands that has not come as a whole: thousands may come before it, byte by byte."""

    @property
    def has_begun(self) -> bool:
        """Whether any bytes have come."""
        return bool(self._bytes)

    def receive(self, data: bytes) -> tuple[WavFormat, int, bytes] | None:
        """
        Return the format, the bytes of samples that follow (0: unknown) and the first of them.

        None while the header is incomplete.

        Raises:
            AudioFormatError: The data is not a WAV header, or announces audio that is not supported.
        """
        self._bytes += data
        if not any(start.startswith(self._bytes[:4]) for start in WAV):
            raise AudioFormatError("this is no wav: it does not begin with RIFF")
        at = self._at
        while at + 8 <= len(self._bytes):
            name, size = self._bytes[at : at + 4], int.from_bytes(self._bytes[at + 4 : at + 8], "little")
            if name == b"data":
                if self._format is None:
                    raise AudioFormatError("this wav has no format before its data")
                return self._format, size, self._bytes[at + 8 :]
            if not name.isascii() or size > MAX_HEADER_BYTES:
                break  # the size before this one was wrong, or this one is
            end = at + 8 + size
            if name == b"fmt " and end <= len(self._bytes):
                self._format = _format(self._bytes[at + 8 : end])
            at = end + size % 2
            if end <= len(self._bytes):
                self._at, self._n_chunks = at, self._n_chunks + 1
            if self._n_chunks > MAX_CHUNKS:
                raise AudioFormatError(f"a wav with more than {MAX_CHUNKS} chunks before its samples: it is damaged")
        return self._searched(at)

    def _searched(self, at: int) -> tuple[WavFormat, int, bytes] | None:
        """The same where sizes lead nowhere: the samples are looked for, and their size is not believed."""
        is_astray = at + 8 <= len(self._bytes)
        found = self._bytes.find(b"data", _FORMAT_AT + _FORMAT_BYTES) if is_astray else -1
        if 0 <= found <= len(self._bytes) - 8:
            usual = self._bytes[_FORMAT_AT : _FORMAT_AT + _FORMAT_BYTES]
            return self._format or _format(usual), 0, self._bytes[found + 8 :]
        if len(self._bytes) > MAX_HEADER_BYTES:
            raise AudioFormatError(f"no audio within {MAX_HEADER_BYTES} bytes of wav header")
        return None


class WavStream:
    """Decodes recordings one behind the other; the result does not depend on how their bytes are split over calls."""

    def __init__(self) -> None:
        self._held = b""
        """Last bytes that may begin the next header."""
        self._one = _OneWav()
        self._n_short = 0
        """Short recordings in a row."""

    @property
    def holds_several(self) -> bool:
        """Whether one without sound was read and another one follows: FFmpeg would hear their headers as noise."""
        return self._n_short > 0

    def blocks(self, data: bytes) -> Iterator[Samples]:
        """
        Decode the samples that `data` completes: (n,) at 16 kHz, `PIECE_BYTES` at a time.

        Raises:
            AudioFormatError: A header is not supported, or there is nothing but headers.
        """
        data = self._held + data
        starts = [found.start() for found in _HEADER.finditer(data)]
        n_told = len(data) - _n_held(data)
        self._held = data[n_told:]
        for start, stop in itertools.pairwise([0, *starts, n_told]):
            if start in starts and self._one.has_begun:
                yield self._one.finish()
                self._begin_next()
            yield from self._one.blocks(data[start:stop])

    def _begin_next(self) -> None:
        self._n_short = self._n_short + 1 if self._one.duration_s < SHORT_S else 0
        if self._n_short > MAX_SHORT:
            raise AudioFormatError(f"{MAX_SHORT} wavs in a row of less than {SHORT_S:g} s: expected sound")
        self._one = _OneWav()

    def end(self) -> Iterator[Samples]:
        """
        The samples that the resampler still holds, (n,); half a sample at the end is dropped.

        Raises:
            AudioFormatError: The stream ended in a header.
        """
        yield from self._one.blocks(self._held)
        if not self._one.has_samples:
            raise AudioFormatError("this wav ended in its header")
        yield self._one.finish()

    def close(self) -> None:
        """Do nothing: there is nothing to let go of."""


class _OneWav:
    """Decodes one recording."""

    def __init__(self) -> None:
        self._header = WavHeader()
        self._format: WavFormat | None = None
        self._signal: MonoSignal | None = None
        self._n_left: int | None = None
        """Bytes of samples that follow; None: up to the end of the stream."""
        self._n_bytes = 0
        """Bytes of samples so far."""
        self._behind = b""
        """First bytes behind the samples, until they tell whether these go on."""
        self._rest = b""

    @property
    def has_begun(self) -> bool:
        """Whether any bytes have come."""
        return self._header.has_begun

    @property
    def has_samples(self) -> bool:
        """Whether the header is complete."""
        return self._signal is not None

    @property
    def duration_s(self) -> float:
        """Sound so far, seconds."""
        return 0.0 if self._format is None else self._n_bytes / self._format.frame_bytes / self._format.rate

    def blocks(self, data: bytes) -> Iterator[Samples]:
        """As `WavStream.blocks`, for bytes of this recording."""
        if self._format is None:
            found = self._header.receive(data)
            if found is None:
                return
            self._format, size, data = found
            self._n_left = size or None
            self._signal = MonoSignal(self._format.channels, self._format.rate)
        data = self._sound(data)
        self._n_bytes += len(data)
        for at in range(0, len(data), PIECE_BYTES):
            yield self._decoded(data[at : at + PIECE_BYTES], self._format)

    def finish(self) -> Samples:
        """The samples that the resampler still holds, (n,)."""
        return self._signal.finish() if self._signal is not None else np.zeros(0, np.float32)

    def _sound(self, data: bytes) -> bytes:
        """What of `data` is samples: a size that is too small does not end them, but a chunk does."""
        if self._n_left is None:
            return data
        sound, behind = data[: self._n_left], self._behind + data[self._n_left :]
        self._n_left -= len(sound)
        if len(behind) < _CHUNK_BYTES:
            self._behind = behind
        elif not _CHUNK.match(behind):
            self._n_left, self._behind = None, b""
            return sound + behind
        else:
            self._behind = behind[:_CHUNK_BYTES]
        return sound

    def _decoded(self, data: bytes, format_: WavFormat) -> Samples:
        assert self._signal is not None
        data = self._rest + data
        whole = len(data) - len(data) % format_.frame_bytes
        self._rest = data[whole:]
        samples = silenced(_samples(data[:whole], format_))
        return self._signal.convert(samples.reshape(-1, format_.channels))


def _n_held(data: bytes) -> int:
    """How many of the last bytes may begin a header."""
    tails = (data[-n:] for n in range(min(_HEADER_BYTES - 1, len(data)), 0, -1))
    return next((len(tail) for tail in tails if _may_begin(tail)), 0)


def _may_begin(tail: bytes) -> bool:
    return any(start.startswith(tail[:4]) for start in WAV) and b"WAVEfmt ".startswith(tail[8:])


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
