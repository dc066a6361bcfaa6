"""
Streaming reader of WebM as browsers record it (`MediaRecorder`, audio/webm;codecs=opus): bytes in, Opus packets out.

Reads recordings of one Opus track in clusters of simple blocks without lacing, and refuses everything else. Sizes are
checked before bytes are kept, and elements that are not needed are skipped without keeping them. Damage behind the
first packet is passed over: reading goes on where a cluster, a block of sound or a next recording begins. Pure.

Source: RFC 8794 (EBML), RFC 9559 (Matroska).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from streamer.errors import AudioFormatError

MAX_ELEMENT_BYTES = 65536
"""Longest element that is kept: an Opus packet has at most 1,275 bytes per frame."""
MAX_HEADER_BYTES = 65536
"""Most bytes before the track of the recording is known."""
MAX_SKIPPED_BYTES = 2**24
"""Longest element that is skipped; an element without a size reads as the largest possible size."""

MAX_SOUNDLESS = 200
"""Elements in a row that are no sound: each takes two bytes to send and 4 us to read. A recorder writes some dozens
before its first packet, and one or two between two packets."""

MAX_DAMAGED_BYTES = 1_048_576
"""Bytes without a packet that are passed over as damage: sixteen seconds at the highest rate."""

_EBML, _SEGMENT, _CLUSTER, _BLOCK_GROUP = 0x1A45DFA3, 0x18538067, 0x1F43B675, 0xA0
_DOC_TYPE, _TIME_SCALE, _INFO = 0x4282, 0x2AD7B1, 0x1549A966
_TRACKS, _TRACK, _CODEC = 0x1654AE6B, 0xAE, 0x86
_CLUSTER_TIME, _SIMPLE_BLOCK, _BLOCK = 0xE7, 0xA3, 0xA1
_ENTERED = frozenset((_EBML, _SEGMENT, _CLUSTER, _BLOCK_GROUP, _INFO, _TRACKS, _TRACK))
"""Elements with children; the children are read as if they were siblings."""
_KEPT = frozenset((_DOC_TYPE, _TIME_SCALE, _CODEC, _CLUSTER_TIME, _SIMPLE_BLOCK, _BLOCK))

_LIKELY_BYTES = (
    dict.fromkeys((0xEC, 0xBF, 0xA7, 0xAB, 0x9B, 0xFB, 0xA4, 0x75A1, 0x75A2, 0x5854), 4096)
    | dict.fromkeys((0x114D9B74, 0x1C53BB6B, 0x1254C367, 0x1043A770), MAX_SKIPPED_BYTES)
    | {_SIMPLE_BLOCK: 8192, _BLOCK: 8192, _CLUSTER_TIME: 8}
)
"""Elements that may stand behind the first packet, and how long they are at most: a damaged one may seem to be any."""
_MARK = re.compile(rb"\x1f\x43\xb6\x75|\x1a\x45\xdf\xa3|\xa3(?:[\x80-\xfe]|[\x40-\x7f].)\x81..\x80", re.DOTALL)
"""A cluster, a recording, or a block of the first track that is sound."""
_MARK_BYTES = 7


class Packet(NamedTuple):
    """One Opus packet and its time in the recording."""

    start_s: float
    data: bytes
    recording: int = 0
    """Number of the recording: a recorder that stops and starts sends one after the other."""


class WebmReader:
    """Reads recordings, one after the other; the result does not depend on how their bytes are split over calls."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._n_skipped = 0
        self._n_soundless = 0
        """Elements since the last packet."""
        self._n_read = 0
        self._time_scale_s = 0.001
        self._cluster_time = 0
        self._has_begun = False
        self._has_track = False
        self._recording = 0
        self._has_sound = False
        """Whether a packet of this recording was read."""
        self._is_astray = False
        """Whether the next mark is looked for."""
        self._n_damaged = 0
        """Bytes passed over since the last packet."""

    @property
    def n_buffered(self) -> int:
        """Bytes that are held until an element is complete."""
        return len(self._buffer)

    def read(self, data: bytes) -> Iterator[Packet]:
        """
        The packets that `data` completes, read lazily.

        Raises:
            AudioFormatError: The bytes are not such a recording, or are damaged.
        """
        # only counts until there is a track
        self._n_read += len(data)
        self._buffer += data
        while True:
            try:
                yield from self._undamaged()
                break
            except AudioFormatError:
                if not self._has_sound or self._n_soundless > MAX_SOUNDLESS or self._n_damaged > MAX_DAMAGED_BYTES:
                    raise
                self._is_astray = True
        if not self._has_track and self._n_read > MAX_HEADER_BYTES:
            raise AudioFormatError(f"webm audio: no Opus track in the first {MAX_HEADER_BYTES} bytes")

    def _undamaged(self) -> Iterator[Packet]:
        """Packets up to the next damage."""
        if self._is_astray and not self._find_mark():
            return
        for element, body in self._elements():
            yield from self._packets(element, body)

    def _find_mark(self) -> bool:
        """Drop bytes up to the next mark; whether there is one."""
        found = _MARK.search(self._buffer, 1)
        n = found.start() if found else max(0, len(self._buffer) - _MARK_BYTES)
        self._n_skipped, self._is_astray = 0, found is None
        self._n_damaged += n
        del self._buffer[:n]
        if self._n_damaged > MAX_DAMAGED_BYTES:
            raise AudioFormatError(f"webm audio: {MAX_DAMAGED_BYTES} bytes without sound: damaged")
        return found is not None

    def _elements(self) -> Iterator[tuple[int, bytes]]:
        """Id and content of the complete elements that are kept."""
        while self._skip():
            head = self._head()
            if head is None:
                return
            element, size, n_head = head
            if element == _EBML and self._has_track:
                self._begin_again()
            if self._has_sound:
                _check_likely(element, size)
            if element in _ENTERED:
                self._count_soundless()
                del self._buffer[:n_head]
            elif size >= MAX_SKIPPED_BYTES:
                raise AudioFormatError(
                    f"webm audio: element of {size} bytes or of no size, expected a recording of sound"
                )
            elif element not in _KEPT:
                self._count_soundless()
                self._n_skipped = n_head + size
            elif size > MAX_ELEMENT_BYTES:
                raise AudioFormatError(f"webm audio: element of {size} bytes, expected at most {MAX_ELEMENT_BYTES}")
            elif len(self._buffer) < n_head + size:
                return
            else:
                body = bytes(self._buffer[n_head : n_head + size])
                del self._buffer[: n_head + size]
                yield element, body

    def _begin_again(self) -> None:
        self._recording += 1
        self._n_read, self._has_track, self._has_sound = len(self._buffer), False, False
        self._time_scale_s, self._cluster_time = 0.001, 0

    def _skip(self) -> bool:
        """Drop bytes of skipped elements; whether any bytes are left."""
        n = min(self._n_skipped, len(self._buffer))
        del self._buffer[:n]
        self._n_skipped -= n
        return bool(self._buffer)

    def _head(self) -> tuple[int, int, int] | None:
        """Id and size of the next element, and the length of both in bytes; None while they are incomplete."""
        n_id = _length(self._buffer[0], 4)
        if not self._has_begun and self._buffer[0] != _EBML >> 24:
            raise AudioFormatError(
                "webm audio: the recording does not begin with a WebM header; send it from its start"
            )
        if len(self._buffer) <= n_id:
            return None
        n_size = _length(self._buffer[n_id], 8)
        if len(self._buffer) < n_id + n_size:
            return None
        self._has_begun = True
        element = int.from_bytes(self._buffer[:n_id], "big")
        size = int.from_bytes(self._buffer[n_id : n_id + n_size], "big") & (2 ** (7 * n_size) - 1)
        return element, size, n_id + n_size

    def _packets(self, element: int, body: bytes) -> Iterator[Packet]:
        if element in (_SIMPLE_BLOCK, _BLOCK):
            packet = self._block(body)
            self._n_soundless = self._n_damaged = 0
            self._has_sound = True
            yield packet
            return
        self._count_soundless()
        if element == _CLUSTER_TIME:
            self._cluster_time = int.from_bytes(body, "big")
        elif element == _TIME_SCALE:
            self._set_time_scale(int.from_bytes(body, "big"))
        elif element == _CODEC:
            self._choose(body)
        elif element == _DOC_TYPE and body.rstrip(b"\0") not in (b"webm", b"matroska"):
            raise AudioFormatError(f"webm audio: container {body[:20]!r}, expected webm")

    def _count_soundless(self) -> None:
        self._n_soundless += 1
        if self._n_soundless > MAX_SOUNDLESS:
            raise AudioFormatError(f"webm audio: {MAX_SOUNDLESS} elements in a row without sound, expected a recording")

    def _set_time_scale(self, nanoseconds: int) -> None:
        if not 1 <= nanoseconds <= 1_000_000_000:
            raise AudioFormatError(f"webm audio: {nanoseconds} ns of time scale, expected 1 to 1000000000")
        self._time_scale_s = nanoseconds / 1e9

    def _choose(self, codec: bytes) -> None:
        name = codec.rstrip(b"\0")
        if name != b"A_OPUS":
            raise AudioFormatError(f"webm audio: codec {name[:20]!r}, expected one track of Opus alone")
        if self._has_track:
            raise AudioFormatError("webm audio: a second track, expected one")
        self._has_track = True

    def _block(self, body: bytes) -> Packet:
        if not self._has_track:
            raise AudioFormatError("webm audio: sound before the header of its track")
        n_track = _length(body[0], 8) if body else 0
        if len(body) <= n_track + 3:
            raise AudioFormatError(f"webm audio: block of {len(body)} bytes, expected a header and a packet")
        if body[n_track + 2] & 0x06:
            raise AudioFormatError("webm audio: several packets in one block, expected one")
        offset = int.from_bytes(body[n_track : n_track + 2], "big", signed=True)
        start_s = max(self._cluster_time + offset, 0) * self._time_scale_s
        return Packet(start_s, body[n_track + 3 :], self._recording)


def _check_likely(element: int, size: int) -> None:
    """Check an element behind the first packet. Raises AudioFormatError: no recorder writes it there."""
    if element not in _ENTERED and size > _LIKELY_BYTES.get(element, -1):
        raise AudioFormatError(f"webm audio: element {element:x} of {size} bytes between blocks: damaged")


def _length(first: int, most: int) -> int:
    """Length in bytes of an EBML number, from the leading zero bits of its first byte."""
    n = 9 - first.bit_length()
    if n > most:
        raise AudioFormatError("webm audio: damaged; send the recording from its start, without a gap")
    return n
