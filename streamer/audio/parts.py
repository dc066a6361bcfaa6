"""Parts of a file that are read as files of their own, with some bytes replaced."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import IO

SCANNED_BYTES = 1_048_576
"""Bytes that are read at once while something is looked for."""


@dataclass(frozen=True, slots=True)
class Part:
    """Where a recording stands in a file, and which of its bytes are to be replaced."""

    start: int
    stop: int
    patches: Mapping[int, bytes] = field(default_factory=dict)
    """New bytes by their place in the file."""
    head: bytes = b""
    """Bytes that are read before those of the file."""
    announced: float = 1.0
    """Samples that its header announces, as a multiple of those that are there; more than 1: the file was cut."""
    announced_s: float | None = None
    """Length of its sound that its first frame tells, seconds; None: it tells none."""
    lacks_head: bool = False
    """Whether what came before it is lost, by an unknown length."""
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
        size = len(self._part.head) + self._part.stop - self._part.start
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: size}[whence]
        self._at = max(0, base + offset)
        return self._at

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]  # of typeshed's own buffer type
        """As `io.RawIOBase.readinto`."""
        if self._at < len(self._part.head):
            head = self._part.head[self._at : self._at + len(buffer)]
            buffer[: len(head)] = head
            self._at += len(head)
            return len(head)
        start = self._part.start + self._at - len(self._part.head)
        n = max(0, min(len(buffer), self._part.stop - start))
        data = bytearray(read_at(self._file, start, n))
        for place, patch in self._part.patches.items():
            for at, byte in enumerate(patch, place - start):
                if 0 <= at < len(data):
                    data[at] = byte
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)


def places(file: IO[bytes], wanted: re.Pattern[bytes], at: int, size: int, n_longest: int) -> Iterator[int]:
    """
    Where a pattern stands in a file.

    Args:
        file: Its position is moved.
        wanted: The pattern.
        at: Place from which on it is looked for.
        size: Of the whole file.
        n_longest: Bytes of its longest match.
    """
    while at < size:
        for found in wanted.finditer(read_at(file, at, SCANNED_BYTES + n_longest - 1)):
            if found.start() < SCANNED_BYTES:
                yield at + found.start()
        at += SCANNED_BYTES


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
