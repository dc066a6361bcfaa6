"""Reads recordings by libsndfile (wav, flac, ogg, mp3 …): where there is no FFmpeg, and what FFmpeg does not know."""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO, Any

import numpy as np

from streamer.audio.reader import PIECE_VALUES, Block, Track, check_layout, cleaned
from streamer.errors import AudioFormatError

MAX_FAILURES = 16
"""Failures in a row after which the rest of a file is given up."""
PIECE_FRAMES = 4096
"""Samples of each channel that are read at once: so many are lost where a file is damaged."""
UNKNOWN_FRAMES = 2**62
"""Numbers of samples from here on stand for an unknown one."""


class SndfileReader:
    """
    One recording.

    Args:
        file: Its bytes; must be seekable. The caller closes it.
        name: For error messages.

    Raises:
        AudioFormatError: libsndfile does not know the format.
    """

    def __init__(self, file: IO[bytes], name: str) -> None:
        # imported here: it loads a shared library that the daemon does not need until a file comes
        import soundfile

        try:
            self._sound: Any = soundfile.SoundFile(file)
        except soundfile.LibsndfileError as error:
            raise AudioFormatError(f"{name}: no audio that can be decoded ({error})") from None
        self.tracks = [Track()]
        try:
            check_layout(name, self._sound.samplerate, self._sound.channels)
        except AudioFormatError:
            self.close()
            raise

    def announced_s(self, track: int) -> float | None:
        """As `Reader.announced_s`; there is one track."""
        return self._sound.frames / self._sound.samplerate if 0 < self._sound.frames < UNKNOWN_FRAMES else None

    def blocks(self) -> Iterator[Block]:
        """As `Reader.blocks`."""
        [track], rate = self.tracks, self._sound.samplerate
        n_piece = min(PIECE_FRAMES, PIECE_VALUES // self._sound.channels, rate)
        at = n_failures = 0
        while n_failures < MAX_FAILURES:
            samples = self._read(n_piece, at + n_piece)
            if samples is None:
                n_failures += 1
                track.losses.add(track.decoded_s, n_piece / rate)
                at += n_piece
                continue
            if not len(samples):
                return
            n_failures, at = 0, at + len(samples)
            yield Block(0, rate, (), cleaned(samples, track, rate))
            track.count(len(samples), rate)

    def close(self) -> None:
        """As `Reader.close`."""
        self._sound.close()

    def _read(self, n: int, following: int) -> Any:
        """Samples (n, n_channels), none at the end; None: they are damaged, and the position is that after them."""
        import soundfile

        try:
            # into an array: for one of its own it believes the number of samples, which may be negative
            return self._sound.read(out=np.empty((n, self._sound.channels), np.float32))
        except soundfile.LibsndfileError:
            try:
                self._sound.seek(following)
            except soundfile.LibsndfileError:
                return None
            return None
