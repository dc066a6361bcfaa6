"""
The recordings that stand in one file, with sizes in their headers that are wrong put right.

A recorder that writes to a pipe, or crashes, leaves sizes of 0, of the largest number, or of what it had written.
A size is believed only where the file goes on behind it as its format demands; otherwise the samples go on to the next
header or to the end of the file. Tags and bytes of chance in front of a recording are passed over, and recordings one
behind the other, as of a recorder that stops and starts, are told apart.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import IO, NamedTuple

from streamer.audio.signatures import HEAD_BYTES, begins_recording, is_frame, is_known

SEARCHED_BYTES = 65_536
"""Bytes in front of a recording in which its beginning is looked for."""
FRAME_SEARCHED_BYTES = 4096
"""The same where a frame seems to begin the file: among more bytes of true frames a header may stand by chance."""
MAX_CHUNKS = 4096
"""Chunks or boxes of a recording that are walked through."""
MAX_PARTS = 256
"""Recordings in one file; what follows belongs to the last one."""
SCANNED_BYTES = 1_048_576
"""Bytes that are read at once while a next header is looked for."""
TRAILING_BYTES = 8
"""Bytes behind the last chunk that are no chunk."""
_WAVE_HEADER = re.compile(rb"(?:RIFF|RF64|RIFX)....WAVEfmt ", re.DOTALL)
_MAGIC = re.compile(rb"RIFF|RF64|RIFX|OggS\0|\x1a\x45\xdf\xa3|fLaC|caff|#!AMR|FORM|....ftyp", re.DOTALL)
_OWN_NAMES = (b"LIST", b"id3 ", b"ID3 ", b"JUNK", b"PAD ", b"bext", b"fact", b"cue ", b"smpl", b"iXML", b"_PMX")
"""Chunks that may be cut by the end of the file."""


@dataclass(frozen=True, slots=True)
class Part:
    """Where a recording stands in a file, and which of its bytes are to be replaced."""

    start: int
    stop: int
    patches: Mapping[int, bytes] = field(default_factory=dict)
    """New bytes by their place in the file."""
    announced: float = 1.0
    """Samples that its header announces, as a multiple of those that are there; more than 1: the file was cut."""
    is_cut: bool = False
    """Whether the file ends within the recording, by an unknown length."""


class View(io.RawIOBase):
    """
    A part of a file as a file of its own.

    Args:
        file: The whole; its position is moved.
        part: What is seen of it.
    """

    def __init__(self, file: IO[bytes], part: Part) -> None:
        super().__init__()
        self._file, self._part, self._at = file, part, 0

    def readable(self) -> bool:
        """It can be read."""
        return True

    def seekable(self) -> bool:
        """It can be read from any position."""
        return True

    def tell(self) -> int:
        """Position, from the beginning of the part."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """As `io.RawIOBase.seek`; a position before the part is its beginning."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._part.stop - self._part.start}[whence]
        self._at = max(0, base + offset)
        return self._at

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]  # of typeshed's own buffer type
        """As `io.RawIOBase.readinto`."""
        start = self._part.start + self._at
        n = max(0, min(len(buffer), self._part.stop - start))
        data = bytearray(read_at(self._file, start, n))
        for place, patch in self._part.patches.items():
            for at, byte in enumerate(patch, place - start):
                if 0 <= at < len(data):
                    data[at] = byte
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)


def read_at(file: IO[bytes], at: int, n: int) -> bytes:
    """
    Read bytes from a position, fewer at the end of the file.

    Args:
        file: Its position is moved.
        at: The position.
        n: How many.
    """
    file.seek(at)
    return file.read(n)


class Recording(NamedTuple):
    """One recording of a file."""

    file: IO[bytes]
    """It alone, from its header on."""
    part: Part
    """Where it stands."""


def recordings(file: IO[bytes]) -> list[Recording]:
    """The recordings of a file; at least one, if only with bytes of chance."""
    size = file.seek(0, io.SEEK_END)
    return [Recording(io.BufferedReader(View(file, part), 65_536), part) for part in parts(file, size)]


def parts(file: IO[bytes], size: int) -> list[Part]:
    """Where the recordings of a file of `size` bytes stand."""
    start = _beginning(file)
    head = read_at(file, start, HEAD_BYTES)
    if head[:4] in (b"RIFF", b"RF64", b"RIFX") and head[8:12] == b"WAVE":
        return list(_waves(file, start, size))
    if head[:4] == b"FORM" and head[8:11] == b"AIF":
        return [_chunked(file, start, size)]
    if head[4:8] == b"ftyp":
        return list(_movies(file, start, size))
    return [Part(start, size)]


def _beginning(file: IO[bytes]) -> int:
    """Where the first recording begins: behind tags, or behind bytes of chance."""
    at = 0
    while (tag := read_at(file, at, 10))[:3] == b"ID3" and len(tag) == 10:
        n_bytes = sum((byte & 0x7F) << shift for byte, shift in zip(tag[6:], (21, 14, 7, 0), strict=True))
        at += 10 + n_bytes + (10 if tag[5] & 0x10 else 0)
    head = read_at(file, at, SEARCHED_BYTES)
    first = head[:HEAD_BYTES]
    if begins_recording(first):
        return at
    if at or (is_known(first) and not is_frame(first)):
        return 0  # MPEG audio behind a tag, and what describes itself
    searched = head[:FRAME_SEARCHED_BYTES] if is_frame(first) else head
    starts = (found.start() for found in _MAGIC.finditer(searched))
    return next((start for start in starts if begins_recording(head[start : start + HEAD_BYTES])), 0)


def _waves(file: IO[bytes], start: int, size: int) -> Iterator[Part]:
    for _ in range(MAX_PARTS):
        part = _chunked(file, start, size)
        yield part
        if part.stop >= size:
            return
        start = part.stop


def _chunked(file: IO[bytes], start: int, size: int) -> Part:
    """A recording in chunks (WAV, AIFF) that begins at `start`, with the size of its samples put right."""
    head = read_at(file, start, HEAD_BYTES)
    is_wave = head[:4] != b"FORM"
    order, samples = ("little", b"data") if head[:4] in (b"RIFF", b"RF64") else ("big", b"data" if is_wave else b"SSND")
    for name, at, n_bytes in _chunks(file, start + HEAD_BYTES, size, order):
        if name != samples:
            continue
        if head[:4] == b"RF64" and n_bytes == 0xFFFFFFFF:
            n_bytes = _long_size(file, start)
        stop = _end_of_chunks(file, at + n_bytes, size, order) if n_bytes else None
        if stop is not None:
            return Part(start, stop)
        stop = (_next_wave(file, at, size) if is_wave else None) or size
        patches = _sizes(start, at, stop, order)
        if head[:4] == b"RF64":
            patches[start] = b"RIFF"  # whose readers know no other size than those
        return Part(start, stop, patches, max(1.0, n_bytes / max(1, stop - at)))
    return Part(start, size)


def _sizes(start: int, at: int, stop: int, order: str) -> dict[int, bytes]:
    """The sizes of a recording from `start` to `stop` whose samples begin at `at`; beyond 32 bits: unknown."""
    little = order == "little"
    whole, samples = (
        min(n, 0xFFFFFFFF).to_bytes(4, "little" if little else "big") for n in (stop - start - 8, stop - at)
    )
    return {start + 4: whole, at - 4: samples}


def _chunks(file: IO[bytes], at: int, size: int, order: str) -> Iterator[tuple[bytes, int, int]]:
    """Name, place of the content and size of each chunk."""
    for _ in range(MAX_CHUNKS):
        head = read_at(file, at, 8)
        if at + 8 > size or not _is_name(head[:4]):
            return
        n_bytes = int.from_bytes(head[4:8], "little" if order == "little" else "big")
        yield head[:4], at + 8, n_bytes
        at += 8 + n_bytes + n_bytes % 2


def _long_size(file: IO[bytes], start: int) -> int:
    """Size of the samples of an RF64 recording, from its first chunk (EBU Tech 3306)."""
    chunk = read_at(file, start + HEAD_BYTES, 24)
    return int.from_bytes(chunk[16:24], "little") if chunk[:4] == b"ds64" else 0


def _end_of_chunks(file: IO[bytes], at: int, size: int, order: str) -> int | None:
    """Where the chunks from `at` on end: at the next recording or at the end of the file; None: these are no chunks."""
    if at > size:
        return None
    for _ in range(MAX_CHUNKS):
        at += 1 if at % 2 and read_at(file, at, 1) == b"\0" else 0
        head = read_at(file, at, HEAD_BYTES)
        if size - at <= TRAILING_BYTES:
            return size
        if begins_recording(head):
            return at
        n_bytes = int.from_bytes(head[4:8], "little" if order == "little" else "big")
        if not _is_name(head[:4]) or (at + 8 + n_bytes > size and head[:4] not in _OWN_NAMES):
            return None
        at = min(size, at + 8 + n_bytes)
    return None


def _next_wave(file: IO[bytes], at: int, size: int) -> int | None:
    """Where the next header of a WAV recording stands; None: there is none."""
    while at < size:
        found = _WAVE_HEADER.search(read_at(file, at, SCANNED_BYTES))
        if found:
            return at + found.start()
        at += SCANNED_BYTES - 16
    return None


def _movies(file: IO[bytes], start: int, size: int) -> Iterator[Part]:
    """Recordings in MP4 or QuickTime: a second `ftyp` box begins the next one."""
    begin, at = start, start
    for _ in range(MAX_CHUNKS):
        head = read_at(file, at, 16)
        n_bytes = int.from_bytes(head[:4], "big")
        n_bytes = int.from_bytes(head[8:16], "big") if n_bytes == 1 else n_bytes
        if n_bytes < 8 or not _is_name(head[4:8]):
            break
        if at + n_bytes > size:
            yield Part(begin, size, is_cut=head[4:8] in (b"moof", b"mdat"))
            return
        if head[4:8] == b"ftyp" and at > begin:
            yield Part(begin, at)
            begin = at
        at += n_bytes
    yield Part(begin, size)


def _is_name(name: bytes) -> bool:
    return len(name) == 4 and all(0x20 <= byte < 0x7F or byte == 0xA9 for byte in name)
