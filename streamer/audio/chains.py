"""
Recordings one behind the other in containers that FFmpeg reads to the end of the first: Matroska and WebM, Ogg, ASF.

A recorder that stops and starts writes them, and so does who joins files. The headers of these containers are long
enough that nothing else looks like one.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from typing import IO

from streamer.audio.endings import breaks_off
from streamer.audio.parts import Part, places, read_at

HEADER_BYTES = 64
"""Bytes that show a header."""
_MATROSKA = re.compile(rb"\x1a\x45\xdf\xa3.{1,40}?\x42\x82.(?:webm|matroska)", re.DOTALL)
_ASF = re.compile(rb"\x30\x26\xb2\x75\x8e\x66\xcf\x11\xa6\xd9\x00\xaa\x00\x62\xce\x6c", re.DOTALL)
_OGG = re.compile(rb"OggS\0[\2\6]", re.DOTALL)
"""The first page of a stream."""


def chain(file: IO[bytes], start: int, size: int) -> Iterator[Part] | None:
    """
    The recordings from a place on.

    Args:
        file: Its position is moved.
        start: Where the first one begins.
        size: Of the whole file.

    Returns:
        None: It is no such recording.
    """
    head = read_at(file, start, HEADER_BYTES)
    header = next((header for header in (_MATROSKA, _ASF, _OGG) if header.match(head)), None)
    return None if header is None else _parts(file, header, start, size)


def _parts(file: IO[bytes], header: re.Pattern[bytes], start: int, size: int) -> Iterator[Part]:
    found = places(file, header, start, size, HEADER_BYTES)
    starts = _without_others(file, found) if header is _OGG else found
    for begin, end in itertools.pairwise(itertools.chain(starts, (size,))):
        yield Part(begin, end, is_cut=breaks_off(file, begin, end))


def _without_others(file: IO[bytes], firsts: Iterator[int]) -> Iterator[int]:
    """First pages without those of other tracks of the same recording, which follow each other."""
    end = -1
    for at in firsts:
        if at != end:
            yield at
        head = read_at(file, at, 27 + 255)
        n_segments = head[26] if len(head) > 26 else 0
        end = at + 27 + n_segments + sum(head[27 : 27 + n_segments])
