"""
MP4 and QuickTime as a stream. Where the index comes first, or with each fragment, sound is decoded as it comes; phones
and most programs write the index behind the sound, which then waits for the end.
"""

from __future__ import annotations

from collections.abc import Iterator

from streamer.audio.container_stream import ContainerStream
from streamer.audio.pcm import Samples
from streamer.errors import AudioFormatError

MAX_LATE_BYTES = 8 * 1024 * 1024
"""Longest recording whose index follows its sound: it is kept as a whole. Eight minutes at 128 kbit/s."""
MAX_BOXES = 1000
"""Boxes before the index or the sound; files have a few."""
_BEFORE = (b"ftyp", b"free", b"skip", b"wide", b"uuid", b"styp")
"""Boxes that may come before the index or the sound."""


class MovieStream:
    """Decodes one recording, with the interface of `containers.Recording`."""

    def __init__(self) -> None:
        self._bytes = bytearray()
        """Those of a recording whose index has not come."""
        self._at = self._n_boxes = 0
        """Where the first box stands that was not looked at, and how many stand before it."""
        self._decoder: ContainerStream | None = None

    def blocks(self, data: bytes) -> Iterator[Samples]:
        """
        As `ContainerStream.blocks`: samples (n,) at 16 kHz; nothing while the index has not come.

        Raises:
            AudioFormatError: There is nothing that can be decoded, or the index does not come.
        """
        if self._decoder is None:
            self._bytes += data
            if len(self._bytes) > MAX_LATE_BYTES:
                raise AudioFormatError(
                    f"an MP4 whose index follows its sound is read as a whole, {MAX_LATE_BYTES >> 20} MiB at most: "
                    "send it in fragments (movflags frag_keyframe+empty_moov), or with its index in front (faststart)"
                )
            if self._first() in (b"", b"mdat"):
                return
            self._decoder = ContainerStream()
            data, self._bytes = bytes(self._bytes), bytearray()
        yield from self._decoder.blocks(data)

    def end(self) -> Iterator[Samples]:
        """The rest of the samples, (n,) at 16 kHz: of a recording whose index follows its sound, all of them."""
        if self._decoder is None:
            self._decoder = ContainerStream(whole=bytes(self._bytes))
            self._bytes = bytearray()
        yield from self._decoder.end()

    def _first(self) -> bytes:
        """Name of the first box that is index, fragment or sound; empty: it has not come."""
        while (name := bytes(self._bytes[self._at + 4 : self._at + 8])) in _BEFORE:
            n_bytes = int.from_bytes(self._bytes[self._at : self._at + 4], "big")
            if n_bytes < 8:
                break
            self._at, self._n_boxes = self._at + n_bytes, self._n_boxes + 1
            if self._n_boxes > MAX_BOXES:
                raise AudioFormatError(f"an MP4 with more than {MAX_BOXES} boxes before its index: it is damaged")
        return name if len(name) == 4 else b""

    def close(self) -> None:
        """As `ContainerStream.close`."""
        if self._decoder is not None:
            self._decoder.close()
