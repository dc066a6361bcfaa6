"""
The recordings that stand in one file, each as a file of its own, with what is wrong in their headers put right.

Tags and bytes of chance in front of a recording are passed over. Recordings one behind the other, as of a recorder that
stops and starts, are told apart. Sizes are believed only where what follows them shows that they are right.
"""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterator
from dataclasses import replace
from typing import IO, NamedTuple

from streamer.audio.beginnings import beginning, tags_end
from streamer.audio.chains import chain
from streamer.audio.chunked import chunked
from streamer.audio.endings import breaks_off
from streamer.audio.frames import announced_s
from streamer.audio.headless import headless
from streamer.audio.movies import movies
from streamer.audio.parts import Part, View, read_at

MAX_PARTS = 4096
"""Recordings in one file; what follows counts as cut off."""
_STREAMINFO = b"\0\0\0\x22"
"""Head of the first block of a FLAC, behind its magic."""


class Recording(NamedTuple):
    """One recording of a file."""

    file: IO[bytes]
    """It alone, from its header on."""
    part: Part
    """Where it stands."""


def recordings(file: IO[bytes]) -> Iterator[Recording]:
    """The recordings of a file; at least one, if only with bytes of chance."""
    size = file.seek(0, io.SEEK_END)
    for part in parts(file, size):
        yield Recording(io.BufferedReader(View(file, part), 65_536), part)


def parts(file: IO[bytes], size: int) -> list[Part]:
    """Where the recordings of a file of `size` bytes stand."""
    start = beginning(file, size)
    found = chunked(file, start or 0, size) or movies(file, start, size) or chain(file, start or 0, size)
    if found is None:
        return [_stream(file, start, size) if start is not None else headless(file, size) or Part(0, size)]
    first = list(itertools.islice(found, MAX_PARTS))
    if next(found, None) is not None:
        first[-1] = replace(first[-1], is_cut=True)
    return first


def _stream(file: IO[bytes], start: int, size: int) -> Part:
    """A recording that tells itself where the next one begins, or that is the only one."""
    head = read_at(file, start, 12)
    if head.startswith(b".snd"):
        at = start + int.from_bytes(head[4:8], "big")
        n_bytes = int.from_bytes(head[8:12], "big") % 0xFFFFFFFF
        return Part(start, size, {start + 8: b"\xff" * 4}, announced=max(1.0, n_bytes / max(1, size - at)))
    if head[4:8] == _STREAMINFO:
        return Part(start, size, {start: b"fLaC"})
    first = read_at(file, tags_end(file, start), 256)
    return Part(start, size, announced_s=announced_s(first), is_cut=breaks_off(file, start, size))
