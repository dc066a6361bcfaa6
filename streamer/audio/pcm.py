"""
Decode raw audio bytes of any encoding, sample rate and number of channels to mono float32 samples at 16 kHz.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeAlias

import numpy as np
import soxr
from numpy.typing import NDArray

from streamer.audio.sample_range import RangeMeter
from streamer.errors import AudioFormatError

Samples: TypeAlias = NDArray[np.float32]

SAMPLE_RATE = 16000
"""Samples per second of all decoded audio."""
MIN_RATE, MAX_RATE = 8000, 48000
MAX_CHANNELS = 8
PIECE_BYTES = 65536
"""Audio decoded at once: 8 s of mu-law at 8 kHz, which take 4 ms."""


def mulaw_table() -> Samples:
    """The sample in [-1, 1] of each G.711 mu-law byte, (256,)."""
    code = ~np.arange(256, dtype=np.int32)
    magnitude = ((((code & 0x0F) << 3) + 0x84) << ((code >> 4) & 0x07)) - 0x84
    return _to_float(np.where(code & 0x80, -magnitude, magnitude))


def alaw_table() -> Samples:
    """The sample in [-1, 1] of each G.711 A-law byte, (256,)."""
    code = np.arange(256, dtype=np.int32) ^ 0x55
    exponent = (code >> 4) & 0x07
    mantissa = ((code & 0x0F) << 4) + 8
    magnitude = np.where(exponent == 0, mantissa, (mantissa + 0x100) << np.maximum(exponent - 1, 0))
    return _to_float(np.where(code & 0x80, magnitude, -magnitude))


def _to_float(pcm: NDArray[np.signedinteger]) -> Samples:
    return pcm.astype(np.float32) / np.float32(32768)


def bounded(samples: Samples) -> Samples:
    """Clip samples (n,) to [-1, 1]: floats can be louder, and the resampler overshoots at full-scale edges."""
    return np.clip(samples, np.float32(-1), np.float32(1))


def mean_of_channels(samples: Samples) -> Samples:
    """Mix the channels of (n, n_channels) to their mean, (n,)."""
    mean: Samples = samples.mean(axis=1, dtype=np.float32)
    return mean


_SAMPLE_TYPES = {"pcm_s16le": "<i2", "pcm_f32le": "<f4", "mulaw": "u1", "alaw": "u1"}
_TABLES = {"mulaw": mulaw_table(), "alaw": alaw_table()}


class Resampler:
    """
    Streaming resampler of mono samples to 16 kHz; samples at 16 kHz pass unchanged.

    The result does not depend on how the samples are split over calls.

    Args:
        rate: Samples per second of the input.
    """

    def __init__(self, rate: int) -> None:
        self._stream = None if rate == SAMPLE_RATE else soxr.ResampleStream(rate, SAMPLE_RATE, 1)

    def resample(self, samples: Samples) -> Samples:
        """Resample (n,); returns the output samples that are complete, (m,), within [-1, 1], m possibly 0."""
        return samples if self._stream is None else bounded(self._stream.resample_chunk(samples))

    def finish(self) -> Samples:
        """Samples that the resampler still holds, (n,). The next call to `resample` begins a new signal."""
        no_samples = np.zeros(0, np.float32)
        if self._stream is None:
            return no_samples
        tail = bounded(self._stream.resample_chunk(no_samples, last=True))
        self._stream.clear()
        return tail


class AudioDecoder:
    """
    Decodes the raw audio of one session to mono float32 samples at 16 kHz.

    The result does not depend on how the bytes are split over calls.

    Args:
        encoding: `pcm_s16le`, `pcm_f32le`, `mulaw` or `alaw`.
        rate: Samples per second of one channel, 8000 to 48000.
        channels: Interleaved channels, 1 to 8.
        mix: Mixes (n, channels) to (n,), where there are several.

    Raises:
        AudioFormatError: The encoding, the rate or the number of channels is not supported.
    """

    def __init__(
        self, encoding: str, rate: int, channels: int, mix: Callable[[Samples], Samples] = mean_of_channels
    ) -> None:
        if encoding not in _SAMPLE_TYPES:
            raise AudioFormatError(f"encoding {encoding!r}: expected one of {', '.join(_SAMPLE_TYPES)}")
        if not MIN_RATE <= rate <= MAX_RATE:
            raise AudioFormatError(f"rate {rate}: expected {MIN_RATE} to {MAX_RATE} hertz")
        if not 1 <= channels <= MAX_CHANNELS:
            raise AudioFormatError(f"{channels} channels: expected 1 to {MAX_CHANNELS}")
        self._encoding = encoding
        self._channels, self._mix = channels, mix
        self._sample_type = np.dtype(_SAMPLE_TYPES[encoding])
        self._resampler, self._range = Resampler(rate), RangeMeter(rate)
        self._rest = b""
        """First bytes of a sample frame, whose others come with the next message."""

    def decode(self, data: bytes) -> Samples:
        """
        Decode one message, which may end anywhere, also within a sample.

        Returns:
            The samples at 16 kHz that it completes, (n,), within [-1, 1]; the resampler holds a few back.

        Raises:
            AudioFormatError: There are samples that are not finite, or floats in the range of integers.
        """
        data = self._rest + data
        n_whole = len(data) - len(data) % self._frame_bytes
        self._rest = data[n_whole:]
        return self._resampler.resample(self._mono(self._samples(data[:n_whole])))

    def blocks(self, data: bytes) -> Iterator[Samples]:
        """
        Samples (n,) of one message, in pieces of at most PIECE_BYTES, so that none takes long. Shared by all decoders.

        Raises:
            AudioFormatError: As `decode`, but the pieces before the bad sample were decoded.
        """
        for at in range(0, len(data), PIECE_BYTES):
            yield self.decode(data[at : at + PIECE_BYTES])

    def finish(self) -> Samples:
        """Samples that the resampler still holds, (n,). The next `decode` begins a new signal."""
        return self._resampler.finish()

    def end(self) -> Iterator[Samples]:
        """The samples of `finish`, (n,): no audio follows; a part of a sample is dropped. Shared by all decoders."""
        yield self.finish()

    def close(self) -> None:
        """Do nothing: there is nothing to let go of. Shared by all decoders."""

    @property
    def _frame_bytes(self) -> int:
        return self._sample_type.itemsize * self._channels

    def _samples(self, data: bytes) -> Samples:
        raw = np.frombuffer(data, self._sample_type)
        if self._encoding == "pcm_s16le":
            return _to_float(raw)
        if self._encoding == "pcm_f32le":
            self._range.refuse_integers(finite(raw).reshape(-1, self._channels))
            return bounded(raw)
        return np.take(_TABLES[self._encoding], raw)

    def _mono(self, interleaved: Samples) -> Samples:
        if self._channels == 1:
            return interleaved
        return self._mix(interleaved.reshape(-1, self._channels))


def finite(samples: Samples) -> Samples:
    """
    Return samples (n,) as they are.

    Raises:
        AudioFormatError: A sample is infinite or not a number.
    """
    is_finite = np.isfinite(samples)
    if not is_finite.all():
        first = int(np.argmin(is_finite))
        raise AudioFormatError(f"sample {first} of the message is {samples[first]}: expected -1 to 1")
    return samples
