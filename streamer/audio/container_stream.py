"""
Recordings in any container, decoded by FFmpeg (PyAV, extra `codecs`) while their bytes come.

FFmpeg asks for bytes when it wants them, so it runs on a thread of its own, which stands still except while the caller
waits for it: the result does not depend on how the bytes are split, and no more is decoded than the caller takes. The
caller waits for at most PATIENCE_S at a time: a damaged megabyte takes FFmpeg a while, which others need not wait for.
"""

from __future__ import annotations

import io
import queue
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np

from streamer.audio.ffmpeg_reader import UNKNOWN, allowed, packets, pieces
from streamer.audio.mixer import MonoSignal
from streamer.audio.pcm import Samples
from streamer.audio.reader import problem_of_layout, silenced
from streamer.errors import AudioFormatError

PROBE_BYTES = 1024 * 1024
"""Bytes in which FFmpeg must find the format of the audio."""
ANALYZE_US = 100_000
"""Audio that FFmpeg may read to find out about its format, in microseconds: it all comes late by as much."""
MAX_DAMAGED = 1000
"""Packets in a row that cannot be decoded, after which a recording is given up: about twenty seconds."""
READ_BYTES = 4096
"""Bytes that FFmpeg reads at once: sound in them is decoded before it asks for more."""
PATIENCE_S = 0.002
"""Time for which the caller waits; decoding a frame takes a tenth of it."""
NOTHING_YET: Samples = np.zeros(0, np.float32)
"""Stands for samples that the thread has not decoded yet: the caller does something else, then asks again."""


class _WantsMore:
    """Said by the thread when it has used all bytes."""


class _Over:
    """Said by the thread when it has decoded everything."""


class _Abandoned(Exception):  # noqa: N818 - ends the thread, and is never seen
    """Raised on the thread once nobody waits for it."""


class ContainerStream:
    """
    One recording.

    Bytes that cannot be decoded are passed over, as far as FFmpeg finds the next that can be, but no more than
    `MAX_DAMAGED` packets in a row.

    Args:
        whole: All of it, where it cannot be read from its beginning on; None: its bytes come.
    """

    def __init__(self, whole: bytes | None = None) -> None:
        self._exchange = _Exchange()
        self._is_over = False
        source = self._exchange if whole is None else io.BytesIO(whole)
        threading.Thread(target=_decode, args=(self._exchange, source), name="container", daemon=True).start()

    def blocks(self, data: bytes) -> Iterator[Samples]:
        """
        Decode as far as `data` goes: samples at 16 kHz, (n,), about a frame of the codec at a time, or `NOTHING_YET`.

        Raises:
            AudioFormatError: There is nothing that can be decoded, or no more than was.
        """
        if data and not self._is_over:
            self._exchange.give(data)
            yield from self._said()

    def end(self) -> Iterator[Samples]:
        """
        Decode the rest: no bytes follow. Samples (n,) at 16 kHz, or `NOTHING_YET`.

        Raises:
            AudioFormatError: There is nothing that can be decoded, or no more than was.
        """
        self._exchange.give(b"")
        while not self._is_over:
            yield from self._said()

    def close(self) -> None:
        """Let the thread end; call it in any case."""
        self._is_over = True
        self._exchange.abandon()

    def _said(self) -> Iterator[Samples]:
        while True:
            match self._exchange.hear():
                case _WantsMore():
                    return
                case _Over():
                    self._is_over = True
                    return
                case Exception() as error:
                    self._is_over = True
                    raise error
                case samples:
                    yield samples


class _Exchange:
    """
    What goes between the caller and the thread; the file that FFmpeg reads.

    One thing that was said waits at most: the thread stands still until it is heard.
    """

    def __init__(self) -> None:
        self._given: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._said: queue.Queue[Any] = queue.Queue(maxsize=1)
        self._bytes, self._at = b"", 0
        """Bytes that were given last, and how many of them are read: they may be a megabyte, and FFmpeg reads few."""
        self._has_begun = self._has_ended = self._is_abandoned = False

    # --- the caller's side

    def give(self, data: bytes) -> None:
        """Add bytes; none: no more follow."""
        self._given.put(data)

    def hear(self) -> Any:
        """Return what the thread says next, `NOTHING_YET` after PATIENCE_S."""
        try:
            return self._said.get(timeout=PATIENCE_S)
        except queue.Empty:
            return NOTHING_YET

    def abandon(self) -> None:
        """End the thread when it next speaks or reads."""
        self._is_abandoned = True
        self._given.put(b"")
        while not self._said.empty():
            self._said.get_nowait()

    # --- the thread's side

    def say(self, something: Any) -> None:
        """Say something to the caller, and wait until what was said before is heard."""
        if self._is_abandoned:
            raise _Abandoned
        self._said.put(something)

    def read(self, n: int) -> bytes:
        """Return at most `n` bytes, as soon as there are any; empty at the end. FFmpeg calls it."""
        if self._at == len(self._bytes) and not self._has_ended:
            if self._has_begun and self._given.empty():
                self.say(_WantsMore())
            self._has_begun = True  # before that, nobody waits for an answer
            self._bytes, self._at = self._given.get(), 0
            self._has_ended = not self._bytes
        data = self._bytes[self._at : self._at + n]
        self._at += len(data)
        return data


def _decode(exchange: _Exchange, source: _Exchange | io.BytesIO) -> None:
    """Run on the thread: decode the recording that `source` holds to its end."""
    import av

    options = {**allowed(), "probesize": str(PROBE_BYTES), "analyzeduration": str(ANALYZE_US)}
    try:
        try:
            container: Any = av.open(
                source, mode="r", container_options=options, metadata_errors="replace", buffer_size=READ_BYTES
            )
            with container:
                _decode_audio(container, exchange)
        except (av.error.FFmpegError, ValueError, IndexError):
            exchange.say(AudioFormatError(f"no audio that can be decoded ({UNKNOWN})"))
        except AudioFormatError as error:
            exchange.say(error)
        exchange.say(_Over())
    except _Abandoned:
        pass
    except Exception as error:  # noqa: BLE001 - raised by the caller, which waits for an answer
        exchange.say(error)


def _decode_audio(container: Any, exchange: _Exchange) -> None:
    layout, signal = (0, 0), None
    for frame in _frames(container):
        n_channels, rate = frame.layout.nb_channels, frame.sample_rate
        if problem := problem_of_layout(rate, n_channels):
            raise AudioFormatError(f"no audio that can be decoded ({problem})")
        if layout != (layout := (n_channels, rate)) or signal is None:
            if signal is not None:
                exchange.say(signal.finish())
            signal = MonoSignal(*layout, [channel.name for channel in frame.layout.channels])
        for samples in pieces(frame):
            exchange.say(signal.convert(silenced(samples)))
    if signal is None:
        raise AudioFormatError("no audio that can be decoded (it holds no sound)")
    exchange.say(signal.finish())


def _frames(container: Any) -> Iterator[Any]:
    """
    Everything that can be decoded: what is damaged is passed over, and a cut ends the recording.

    Raises:
        AudioFormatError: `MAX_DAMAGED` packets in a row are damaged.
    """
    import av

    stream, n_damaged = container.streams.audio[0], 0
    for packet in packets(container, [stream]):
        try:
            yield from stream.decode(packet)
            n_damaged = 0
        except av.error.FFmpegError:  # the next packet may be whole; at the end there may be nothing left
            n_damaged += 1
        if n_damaged == MAX_DAMAGED:
            raise AudioFormatError(f"{MAX_DAMAGED} packets in a row cannot be decoded")
