"""
Recordings in chunks (WAV and its longer forms, AIFF, CAF), with what is wrong in their headers put right.

A recorder that writes to a pipe, or crashes, leaves sizes of 0, of the largest number, or of what it had written. A
size is believed only where the file goes on behind it as its format demands; otherwise the samples go on to the next
header or to the end of the file. Where sizes do not lead to the samples, these are looked for. A header of WAV of which
a part is damaged is written anew in front of the samples.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Literal

from streamer.audio.parts import Part, places, read_at
from streamer.audio.signatures import HEAD_BYTES, RIFX, WAV, WAV_HEADER, begins_recording, has_wav_format

MAX_CHUNKS = 4096
"""Chunks of a recording that are walked through."""
HEADER_BYTES = 65_536
"""Bytes in which the samples are looked for, where sizes do not lead to them."""
MAX_FORMAT_BYTES = 1024
"""Longest chunk that tells the format of a WAV."""
TRAILING_BYTES = 8
"""Bytes behind the last chunk that are no chunk."""
START_BYTES = 40
"""Bytes that tell the kind of a recording."""
_OWN_NAMES = (b"LIST", b"id3 ", b"ID3 ", b"JUNK", b"PAD ", b"bext", b"fact", b"cue ", b"smpl", b"iXML", b"_PMX")
"""Chunks that may be cut by the end of the file."""


@dataclass(frozen=True, slots=True)
class _Form:
    """How a kind of recording is built."""

    header: re.Pattern[bytes]
    """How it begins."""
    n_head: int
    """Bytes before its first chunk."""
    samples: bytes
    """Name of the chunk of the samples."""
    order: Literal["little", "big"] = "big"
    n_size: int = 4
    """Bytes of the size of a chunk, which follows its name."""
    aligned: int = 2
    """Chunks begin at multiples of so many bytes from the beginning."""
    counts_head: bool = False
    """Whether a size counts name and size too."""
    whole_size: int | None = 4
    """Place of the size of everything; None: there is none."""
    is_wave: bool = False
    """Whether the format is told as in WAV, so that its header can be written anew."""

    @property
    def n_chunk_head(self) -> int:
        return len(self.samples) + self.n_size


_GUID = b"\xf3\xac\xd3\x11\x8c\xd1\x00\xc0\x4f\x8e\xdb\x8a"
_WAV = _Form(re.compile(WAV_HEADER, re.DOTALL), 12, b"data", "little", is_wave=True)
_RIFX = _Form(re.compile(RIFX + b"....WAVE", re.DOTALL), 12, b"data", is_wave=True)
_AIFF = _Form(re.compile(rb"FORM....AIF[FC]", re.DOTALL), 12, b"SSND")
_CAF = _Form(re.compile(rb"caff\0[\1\2]\0\0desc"), 8, b"data", n_size=8, aligned=1, whole_size=None)
_WAVE64 = _Form(
    re.compile(rb"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb"),
    40,
    b"data" + _GUID,
    "little",
    n_size=8,
    aligned=8,
    counts_head=True,
    is_wave=True,
)
_FORMS = (_WAV, _RIFX, _AIFF, _CAF, _WAVE64)


def chunked(file: IO[bytes], start: int, size: int) -> Iterator[Part] | None:
    """
    The recordings in chunks that begin at a place, one behind the other.

    Args:
        file: Its position is moved.
        start: Where the first one begins.
        size: Of the whole file.

    Returns:
        None: It is no such recording.
    """
    head = read_at(file, start, HEADER_BYTES)
    form = next((form for form in _FORMS if form.header.match(head)), None)
    if form in (None, _RIFX) and has_wav_format(head):
        form = _WAV  # what stands around its format is damaged
    return None if form is None else _parts(form, file, start, size)


def _parts(form: _Form, file: IO[bytes], start: int, size: int) -> Iterator[Part]:
    while True:
        part = _Chunks(form, file, start, size).part()
        yield part
        if part.stop >= size or not form.header.match(read_at(file, part.stop, START_BYTES)):
            return
        start = part.stop


class _Chunks:
    """One recording that begins at `start`, in a file of `size` bytes."""

    def __init__(self, form: _Form, file: IO[bytes], start: int, size: int) -> None:
        self._form, self._file, self._start, self._size = form, file, start, size
        self._head = read_at(file, start, HEADER_BYTES)

    def part(self) -> Part:
        """Where it stands, with its header put right."""
        found = self._samples() or self._searched()
        if found is None or found[0] > self._size:
            return Part(self._start, self._size)
        at, n_bytes = found
        end = self._end(at + n_bytes) if n_bytes > 0 else None
        if end is not None and self._is_whole():
            return Part(self._start, end)
        stop = at + n_bytes if end is not None else self._next_header(at) or self._size
        return self._mended(at, stop, end or stop, max(1.0, n_bytes / max(1, stop - at)))

    def _mended(self, at: int, stop: int, end: int, announced: float) -> Part:
        """The recording that ends at `end`, with a header that tells of samples from `at` to `stop`."""
        format_ = self._format()
        if not format_:
            return Part(self._start, end, self._sizes(at, stop), announced=announced)
        return Part(at, end, head=_wave_header(format_, stop - at, self._form.order), announced=announced)

    def _is_whole(self) -> bool:
        """Whether the names in the header are as they should be."""
        is_told = not self._form.is_wave or self._head.find(b"fmt ", 0, HEADER_BYTES) >= 0
        return is_told and self._form.header.match(self._head) is not None

    def _samples(self) -> tuple[int, int] | None:
        """Place and announced length of the samples, by the sizes of the chunks before them; -1: unknown."""
        for name, at, n_bytes in self._walk(self._start + self._form.n_head):
            if name == self._form.samples:
                if at - self._start == self._format_place():
                    return None  # the name is damage
                is_long = self._head[:4] in WAV[1:] and n_bytes == 0xFFFFFFFF
                return at, self._long_size() if is_long else n_bytes
        return None

    def _searched(self) -> tuple[int, int] | None:
        """Place of the samples by the name of their chunk, or else behind the format of a WAV; their length is -1."""
        format_ = self._format_place()
        found = self._head.find(self._form.samples, format_ or self._form.n_head)
        if found < 0 and format_ is not None and self._form is _WAV:
            found = format_ + len(self._format())
        return None if found < 0 else (self._start + found + self._form.n_chunk_head, -1)

    def _walk(self, at: int) -> Iterator[tuple[bytes, int, int]]:
        """Name, place of the content and size of each chunk."""
        n_name = len(self._form.samples)
        for _ in range(MAX_CHUNKS):
            head = read_at(self._file, at, self._form.n_chunk_head)
            if len(head) < self._form.n_chunk_head or not is_name(head[:4]):
                return
            n_bytes = int.from_bytes(head[n_name:], self._form.order)
            n_bytes -= len(head) if self._form.counts_head else 0
            yield head[:n_name], at + len(head), n_bytes
            at += len(head) + max(0, n_bytes)
            at += (self._start - at) % self._form.aligned

    def _end(self, at: int) -> int | None:
        """Where the chunks from `at` on end: at the next recording or with the file; None: these are no chunks."""
        padding = (self._start - at) % self._form.aligned
        if at > self._size:
            return None
        if not any(read_at(self._file, at, padding)):
            at += padding
        for _ in range(MAX_CHUNKS):
            if self._size - at <= TRAILING_BYTES:
                return self._size
            if begins_recording(read_at(self._file, at, HEAD_BYTES)):
                return at
            name, content, n_bytes = next(self._walk(at), (b"", 0, 0))
            if not name or n_bytes < 0 or (content + n_bytes > self._size and name[:4] not in _OWN_NAMES):
                return None
            at = min(self._size, content + n_bytes)
            at += (self._start - at) % self._form.aligned
        return None

    def _next_header(self, at: int) -> int | None:
        """Where the next header of the same kind stands; None: there is none."""
        return next(places(self._file, self._form.header, at, self._size, START_BYTES), None)

    def _sizes(self, at: int, stop: int) -> dict[int, bytes]:
        """The sizes of a recording whose samples begin at `at`."""
        form = self._form
        patches = {at - form.n_size: _number(stop - at, form.n_size, form.order)}
        if form.whole_size is not None:
            patches[self._start + form.whole_size] = _number(stop - self._start - 8, 4, form.order)
        return patches

    def _long_size(self) -> int:
        """Size of the samples of a recording in RF64 or BW64, from its first chunk (EBU Tech 3306)."""
        return int.from_bytes(self._head[28:36], "little") if self._head[12:16] == b"ds64" else -1

    def _format(self) -> bytes:
        """What is told of the format of a WAV; empty: nothing."""
        at = self._format_place()
        if at is None:
            return b""
        n_size = self._form.n_size
        n_bytes = int.from_bytes(self._head[at - n_size : at], self._form.order)
        n_bytes -= self._form.n_chunk_head if self._form.counts_head else 0
        is_likely = 16 <= n_bytes <= MAX_FORMAT_BYTES and not n_bytes % 2
        return self._head[at : at + (n_bytes if is_likely else 16)]

    def _format_place(self) -> int | None:
        """Place of the format of a WAV, from the beginning; None: there is none."""
        if not self._form.is_wave:
            return None
        if has_wav_format(self._head):  # before its name, which damage may have written elsewhere
            return 20
        name = b"fmt " + self._form.samples[4:]
        found = self._head.find(name, self._form.n_head)
        return found + self._form.n_chunk_head if found >= 0 else None


def is_name(name: bytes) -> bool:
    """Whether these bytes are the name of a chunk or a box."""
    return len(name) == 4 and all(0x20 <= byte < 0x7F or byte == 0xA9 for byte in name)


def _number(n: int, n_bytes: int, order: Literal["little", "big"]) -> bytes:
    """A size as it is written; one beyond the largest: that."""
    return min(n, (1 << 8 * n_bytes) - 1).to_bytes(n_bytes, order)


def _wave_header(format_: bytes, n_samples: int, order: Literal["little", "big"]) -> bytes:
    """A header of a WAV with so many bytes of samples."""
    whole = _number(20 + len(format_) + n_samples, 4, order)
    start = (WAV[0] if order == "little" else RIFX) + whole + b"WAVEfmt " + _number(len(format_), 4, order)
    return start + format_ + b"data" + _number(n_samples, 4, order)
